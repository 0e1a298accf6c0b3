from serving.package.text import *  # noqa: F403
