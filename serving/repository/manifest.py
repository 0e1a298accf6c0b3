from serving.package.manifest import *  # noqa: F403
