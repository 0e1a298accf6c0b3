"""Other model servers beside this one, each in its own virtual environment: same models, same machine, same minute.

A peer is a folder with `requirements.txt` and `serve.py`, run by its own interpreter as
`serve.py --port P --models DIR`, and an entry in `registry.py` that says how to ask it. It answers for both
models until SIGTERM, and has `predictor.py` on its path.
"""
