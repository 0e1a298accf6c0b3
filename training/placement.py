"""TensorFlow on the device that was asked for: it is shown no other, and asked afterwards where the network was.

Only training happens on a GPU. What begins and what ends it is the CPU's: the first weights, and all that goes into a
package, from predictions to golden examples.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from training.device import AUTO, CPU, indices, problem
from training.errors import TrainingError
from training.models import Network, Recipe
from training.options import Options
from training.provenance import processor
from training.quiet import silent_stderr
from training.runs import Device

HOME, GPU = "CPU:0", "GPU:0"
"""As TensorFlow names them; it counts only what it is shown."""
BFLOAT16_SINCE = (8, 0)
"""Compute capability (CUDA C++ Programming Guide, "Features and Technical Specifications")."""


def check(options: Options, recipe: Recipe) -> None:
    """See, without TensorFlow and before anything is read, that a GPU that `options` insist on can be had.

    Raises:
        TrainingError: it can't; says why, and what to do.
    """
    wanted = options.computes_on
    if wanted not in (AUTO, CPU) and (reason := _reason(options, recipe)) is not None:
        raise TrainingError(f"--device {wanted} can't be had: {reason}; --device cpu trains without a GPU")


def settle(options: Options, recipe: Recipe, say: Callable[[str], None]) -> Options:
    """`options` with the device that is there in place of the one that was asked for, and TensorFlow set up for it.

    To be called before TensorFlow computes anything. For the CPU it isn't imported.

    Args:
        options: what was asked for.
        recipe: what is to be trained.
        say: told of a fall-back.

    Raises:
        TrainingError: a GPU that `options` insist on can't be had, or not with the rest of them.
    """
    wanted = options.computes_on
    check(options, recipe)
    if wanted == CPU:
        return replace(options, device=CPU)
    reason = _reason(options, recipe)
    if reason is None:
        with silent_stderr():
            import tensorflow as tf
        gpus = tf.config.list_physical_devices("GPU")
        chosen = indices(wanted) or tuple(range(len(gpus) if options.is_distributed else 1))
        if gpus and max(chosen) < len(gpus):
            _set_up([gpus[index] for index in chosen], options)
            return replace(options, device=",".join(f"cuda:{index}" for index in chosen))
        reason = f"the driver and the CUDA libraries are there, and TensorFlow takes {len(gpus)} GPU(s) all the same"
    if wanted != AUTO:
        raise TrainingError(f"--device {wanted} can't be had: {reason}; --device cpu trains without a GPU")
    say(f"no GPU: training on the CPU, {reason}")
    return replace(options, device=CPU, tf32=False)


def _reason(options: Options, recipe: Recipe) -> str | None:
    """Why not on a GPU, as far as can be seen without TensorFlow."""
    if recipe.cpu_only:
        return f"{recipe.name}, recipe {recipe.variant}: {recipe.cpu_only}"
    return problem(indices(options.computes_on))


def _set_up(gpus: list[Any], options: Options) -> None:
    """Show TensorFlow these GPUs alone, each shared with others, in whole float32."""
    import tensorflow as tf

    for gpu in gpus:
        model = described(gpu, "")
        capability = tuple(int(part) for part in model.compute_capability.split(".") if part)
        if options.precision == "bfloat16" and capability and capability < BFLOAT16_SINCE:
            raise TrainingError(
                f"--precision bfloat16: needs compute capability 8.0, and {model.model} has "
                f"{model.compute_capability}: say --precision float16"
            )
    tf.config.set_visible_devices(gpus, "GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # as it is needed; otherwise all there is, at once
    # TensorFlow's default is TF32, with 10 bits of mantissa: float32 would not be what it says, and a network trained
    # here another than on the CPU.
    tf.config.experimental.enable_tensor_float_32_execution(options.tf32)


def hide_gpus() -> None:
    """Show TensorFlow no GPU, for the rest of this process."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def home(options: Options) -> contextlib.AbstractContextManager[Any]:
    """Keeps what is computed in it on the CPU, where there is a choice."""
    if options.computes_on == CPU:
        return contextlib.nullcontext()
    import tensorflow as tf

    scope: contextlib.AbstractContextManager[Any] = tf.device(HOME)
    return scope


def target(options: Options) -> str | None:
    """TensorFlow's name of the one GPU that trains; None where it is the CPU, or a strategy places variables."""
    return None if options.is_distributed or options.computes_on in (AUTO, CPU) else GPU


def check_used(learner: Network, options: Options, sample: Any) -> None:
    """See that `learner` has been trained where `options` say: TensorFlow moves in silence what a device has not.

    Args:
        learner: the network that was trained.
        options: settled.
        sample: inputs of it, to see where its outputs come from.

    Raises:
        TrainingError: it was somewhere else.
    """
    if options.device in (None, AUTO):  # nothing was promised
        return
    used = {device for weight in learner.trainable_variables for device in _of(weight.value)}
    wanted = "CPU" if options.device == CPU else "GPU"
    if (on := target(options)) is not None:
        import tensorflow as tf

        wanted = on
        with tf.device(on):
            used.add(learner(sample, training=False).device)
    if elsewhere := {device for device in used if f"device:{wanted}" not in device}:
        raise TrainingError(
            f"--device {options.device}: TensorFlow had the network on {', '.join(sorted(elsewhere))}, and said nothing"
        )


def _of(value: Any) -> list[str]:
    """The devices of a variable, or of its copies."""
    return [each.device for each in getattr(value, "values", (value,))]


def devices(options: Options) -> list[Device]:
    """What a fit with `options`, settled, computes on."""
    if options.computes_on in (AUTO, CPU):
        return [Device(CPU, processor())]
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return [described(gpu, name) for gpu, name in zip(gpus, options.computes_on.split(","), strict=True)]


def described(gpu: Any, name: str) -> Device:
    """What TensorFlow knows of `gpu`, under the name `name`."""
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(gpu)
    capability = ".".join(str(part) for part in details.get("compute_capability", ()))
    return Device(name, details.get("device_name", ""), capability)
