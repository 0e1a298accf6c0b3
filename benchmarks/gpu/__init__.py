"""Are these models worth a GPU: CPU against CUDA, in process and through gRPC, and where the one overtakes the other.

What measures needs `[serve]` and ONNX Runtime alone, so that it runs on a machine that has nothing else:

- `inputs.load(package_folder, data=None) -> Inputs`: rows of a model and what they are; `Inputs.feed(rows)` is the
  graph's feed for a batch of so many, `Inputs.message(instances, first=0)` a typed gRPC request, `Inputs.method` its
  path.
- `inprocess.device(name) -> Device`: "cpu" or "cuda:0"; raises `DeviceError` with the reason.
- `inprocess.measure(model, feed_of, device, rows, seconds=0.3) -> float`: median seconds of a run of `rows` rows;
  `feed_of` is such as `Inputs.feed`.
- `inprocess.interleaved(runs, seconds) -> dict[name, list[seconds]]`: callables in turn, A, B, A, B …
- `inprocess.all_cores(processes)`: concurrent runs on the CPU, as workers run; its `measure(model, feeds, seconds)` has
  their rows a second.
- `through.measure(address, method, messages, in_flight, seconds, metrics_url="", clients=1) -> Figures`: closed loop by
  client processes of our own; requests a second, p50, p99, server CPU, GPU utilisation and memory.
- `graphs.widened(model, units)`, `graphs.split(model, tensor)`, `graphs.cuts(model)`: surgery, bytes in and out.
- `variants.NAMES`, `variants.measure(name, model, inputs, device, rows, seconds) -> Outcome`: ways to run a session.
- `crossover.crossover({rows: (cpu seconds, cuda seconds)}) -> Crossover`; `crossover.at_best({rows: seconds})`.

`bench`, `estimate`, `tables`, `worth` and `page` present it: `python -m benchmarks gpu` and docs/gpu.md. `python -m
benchmarks.gpu` is the same where psutil and rich are all that there is besides `[serve]`.
"""
