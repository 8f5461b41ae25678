"""Running a session's model from a notebook: what is chosen, what runs, and what came of it."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import traitlets

from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError, TensorShapeError, TritonicError, brief
from tritonic_nb.examples import EXAMPLES
from tritonic_nb.images import PRESETS, ImageTransform
from tritonic_nb.result import InferenceResult
from tritonic_nb.session import Session
from tritonic_nb.tensors import ModelSpec, TensorSpec
from tritonic_nb.widgets.run_source import (
    LocalFiles,
    MadeUp,
    SamplePicture,
    Snippet,
    Source,
    Uploads,
    Variables,
    call_code,
    quoted,
    usable_names,
)
from tritonic_nb.widgets.worker import Worker

__all__ = ["SOURCES", "RunState"]

SOURCES = ("sample", "upload", "path", "variable")
"""Where an input may come from."""

_TOLD_EVERY_S = 0.2  # while it keeps running
_SETTLE_S = 0.15  # changes that come together are one
_RECENT = 100  # runs that rate and latency are of
_FIRST_PICTURE = "cat"
# The traits that the input depends on, by source.
_OF_SOURCE = {
    "sample": {"sample", "sizes"},
    "upload": {"uploads"},
    "path": {"path"},
    "variable": {"variable"},
}
_PRESET_FIELDS = ("scale", "mean", "std")
_NUMBERS = ("scale", "mean", "std", "crop_ratio")
_WHOLE = ("width", "height", "fill", "multiple")
# What a model with sequences is told: each run is a sequence of its own.
_SEQUENCE = {"sequence_id": 1, "sequence_start": True, "sequence_end": True}


class RunState(traitlets.HasTraits):
    """What is to be inferred, how, and what came of it; no widgets.

    All traits can be observed. Inferences run in one thread of this object's own, and what
    observes the outcome is called there.

    Parameters
    ----------
    session
        Is kept, and stays the caller's to close.
    namespace
        The variables that :attr:`variable` names; by default the notebook's.

    Attributes
    ----------
    source
        One of :data:`SOURCES`.
    sample
        For ``sample``: one of :attr:`samples`.
    uploads
        For ``upload``: pairs of a file's name and its bytes. Pictures, of which several are
        a batch, or arrays as ``.npy`` files; for a model with several inputs one array for
        each, called as the input is.
    path
        For ``path``: the addresses of local files, one in a line, or a list. The same kinds.
    variable
        For ``variable``: ``x``, an array, a picture or a mapping of inputs; or
        ``INPUT0=a, INPUT1=b``.
    sizes
        For made-up values: the whole shapes of inputs by name, instead of 1 for each
        dynamic dimension.
    run_on_change
        Whether any change of these, of the transform or of the model runs the model once.
    keep_running
        Whether it runs again and again; an error ends it.
    samples
        What there is to choose from: the sample pictures, or for a model that takes no
        picture ``ramp``, ``random`` and ``zeros``.
    automatic, edited, transform
        How a picture becomes the input: as the session does by itself, as it was edited
        (None if it was not), and the one of them that counts. None for models without
        pictures.
    words
        The transform as a sentence.
    result
        The last :class:`~tritonic_nb.InferenceResult`, or None.
    error
        What failed and what to do, or None; the next good run clears it.
    running
        Whether an inference is on its way.
    count
        How many ended well, since `keep_running` was switched on, or at all.
    rate, latency_ms
        Runs per second, and the median time of one in milliseconds, over the last 100 since
        `keep_running` was switched on; 0 before. While it runs they are told, with result
        and stages, five times a second at most.
    stages
        Pairs of a stage's name and its milliseconds in the last run.
    code
        Python source of a cell that does the same.

    Raises
    ------
    ArgumentError
        If a trait is set to what it cannot be.
    """

    source = traitlets.Unicode("sample")
    sample = traitlets.Unicode(_FIRST_PICTURE)
    uploads = traitlets.Any(())
    path = traitlets.Any("")
    variable = traitlets.Unicode("")
    sizes = traitlets.Dict()
    run_on_change = traitlets.Bool(False)
    keep_running = traitlets.Bool(False)

    samples = traitlets.Tuple(read_only=True)
    automatic = traitlets.Any(None, allow_none=True, read_only=True)
    edited = traitlets.Any(None, allow_none=True, read_only=True)
    transform = traitlets.Any(None, allow_none=True, read_only=True)
    words = traitlets.Unicode("", read_only=True)

    result = traitlets.Any(None, allow_none=True, read_only=True)
    error = traitlets.Tuple(default_value=None, allow_none=True, read_only=True)
    running = traitlets.Bool(False, read_only=True)
    count = traitlets.Int(0, read_only=True)
    rate = traitlets.Float(0.0, read_only=True)
    latency_ms = traitlets.Float(0.0, read_only=True)
    stages = traitlets.Tuple(read_only=True)
    code = traitlets.Unicode("", read_only=True)

    def __init__(self, session: Session, namespace: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.session = session
        self._given_namespace = namespace
        self._worker = Worker(self._work, "tritonic_nb-run")
        self._viewers = 0
        self._input: Source | None = None
        self._model: ModelSpec | None = None
        self._transform_problem = ""
        # The choice for pictures and the one for made-up values, for models to come.
        self._chosen_samples = {True: _FIRST_PICTURE, False: EXAMPLES[0]}
        self.observe(self._input_changed, ["source", *set().union(*_OF_SOURCE.values())])
        self.observe(self._keep_changed, "keep_running")
        self._follow_model()

    # --- what is chosen ---

    @traitlets.validate("source")
    def _check_source(self, proposal: dict[str, Any]) -> str:
        return _one_of(proposal["value"], SOURCES, "source")

    @traitlets.validate("sample")
    def _check_sample(self, proposal: dict[str, Any]) -> str:
        return _one_of(proposal["value"], self.samples or (proposal["value"],), "sample")

    @traitlets.validate("uploads")
    def _check_uploads(self, proposal: dict[str, Any]) -> tuple[tuple[str, bytes], ...]:
        try:
            return tuple((str(name), bytes(content)) for name, content in proposal["value"])
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"uploads is {brief(proposal['value'])}",
                "give pairs of a file's name and its bytes",
            ) from error

    @traitlets.validate("path")
    def _check_path(self, proposal: dict[str, Any]) -> str:
        value = proposal["value"]
        parts = [value] if isinstance(value, str) else value
        try:
            return "\n".join(map(str, parts))
        except TypeError as error:
            raise ArgumentError(
                f"path is {brief(value)}", "give a path as text, or a list of paths"
            ) from error

    @property
    def namespace(self) -> Mapping[str, Any]:
        """The variables that can be named, which are the notebook's; empty without one."""
        if self._given_namespace is not None:
            return self._given_namespace
        from IPython import get_ipython

        shell = get_ipython()
        return {} if shell is None else shell.user_ns

    def variables(self) -> tuple[str, ...]:
        """Return the names of variables that could be an input."""
        return usable_names(self.namespace)

    @property
    def complete(self) -> bool:
        """Whether the source has something to give, as far as that is known without trying."""
        return {
            "sample": bool(self.samples),
            "upload": bool(self.uploads),
            "path": bool(self.path.strip()),
            "variable": bool(self.variable.strip()),
        }[self.source]

    # --- the transform ---

    def edit_transform(
        self, changes: ImageTransform | str | None = None, /, **fields: Any
    ) -> ImageTransform:
        """Use another transform from now on; the one of before stays where it is refused.

        Parameters
        ----------
        changes
            A whole transform, as one or as JSON (:meth:`ImageTransform.to_json`); or the
            name of a preset, which changes scale, mean and std; or None.
        **fields
            Fields to change. Numbers may be given as text, also several, separated by
            commas, and fractions: ``mean="0.5, 0.5, 0.5"``, ``scale="1/255"``.

        Raises
        ------
        ArgumentError, ImageError
            If it makes no sense, or does not fit the model's input: with the field and the
            numbers.
        """
        base = self._base(changes)
        made = base.replace(**{name: _field(name, value) for name, value in fields.items()})
        self._check_fit(made)
        self._use(made)
        return made

    def reset_transform(self) -> None:
        """Go back to the transform that is chosen automatically."""
        self._use(None)

    def _base(self, changes: ImageTransform | str | None) -> ImageTransform:
        now: ImageTransform | None = self.transform
        if isinstance(changes, ImageTransform):
            return changes
        if isinstance(changes, str) and changes.lstrip().startswith("{"):
            return ImageTransform.from_json(changes)
        if changes is not None and not isinstance(changes, str):
            raise ArgumentError(
                f"the transform is {brief(changes)}",
                f"give an ImageTransform, its JSON, or a preset: {', '.join(PRESETS)}",
            )
        if now is None:
            raise ArgumentError(
                "this model takes no picture that could be transformed",
                "give a whole ImageTransform if it does",
            )
        if changes is None:
            return now
        preset = ImageTransform.preset(changes, now.width, now.height, colors=now.colors)
        return now.replace(**{name: getattr(preset, name) for name in _PRESET_FIELDS})

    def _check_fit(self, transform: ImageTransform) -> None:
        """Refuse a transform whose tensor the model does not take; open sides may be any."""
        inputs = {} if self._model is None else self._model.inputs
        if len(inputs) != 1:
            return
        (spec,) = inputs.values()
        dims = {
            "N": 1, "C": transform.channels, "H": transform.height, "W": transform.width,
        }  # fmt: skip
        layout = transform.layout
        if len(layout) == spec.rank - 1 and not layout.startswith("N"):
            layout = f"N{layout}"  # the session adds it
        made = [dims[axis] for axis in layout]
        if transform.datatype != spec.datatype:
            raise ArgumentError(
                f"datatype {transform.datatype} was given and the model takes {spec}",
                f"use datatype {spec.datatype}",
            )
        try:
            spec.check_shape(_opened(made, layout, spec))
        except TensorShapeError as error:
            sides = f"width {transform.width}, height {transform.height}"
            raise ArgumentError(
                f"{sides}, {transform.colors} as {transform.layout} make a tensor of {made}, and "
                f"the model takes {spec}",
                "change the field that differs; automatic is what fits",
            ) from error

    def _use(self, edited: ImageTransform | None) -> None:
        before = self.transform
        self.set_trait("edited", edited)
        self.set_trait("transform", self.automatic if edited is None else edited)
        self._describe_transform()
        if self.transform != before:
            self._refresh()

    def _describe_transform(self) -> None:
        if self.transform is not None:
            words = str(self.transform)
        elif self._transform_problem:
            words = self._transform_problem
        elif self._model is None:
            words = "no model was chosen yet"
        else:
            words = f"none: {self._model.name} takes no picture"
        self.set_trait("words", words)

    # --- the model ---

    def model_changed(self) -> None:
        """Tell that the session has another model, or the same one loaded anew."""
        self._follow_model()
        self._ask_on_change()

    def _follow_model(self) -> None:
        """Take note of the session's model; an edited transform is given up with its model."""
        try:
            model: ModelSpec | None = self.session.model_info
        except TritonicError:
            model = None
        same = _signature(model) == _signature(self._model)
        self._model = model
        automatic, self._transform_problem = self._automatic_of(model)
        self.set_trait("automatic", automatic)
        takes_pictures = automatic is not None
        choices = tuple(samples.images()) if takes_pictures else EXAMPLES
        chosen = self._chosen_samples[takes_pictures]
        if choices != self.samples:
            # First what may be chosen, so that whoever observes the choice finds it there.
            self.set_trait("samples", choices)
            self.sample = chosen
        self._use(self.edited if same else None)
        self._renew_input()

    def _automatic_of(self, model: ModelSpec | None) -> tuple[ImageTransform | None, str]:
        if model is None:
            return None, ""
        try:
            return self.session.transform, ""
        except TritonicError as error:
            return None, error.message

    # --- what follows from a change ---

    def _input_changed(self, change: dict[str, Any]) -> None:
        if change["name"] == "sample" and self.samples:
            self._chosen_samples[change["new"] not in EXAMPLES] = change["new"]
        if change["name"] == "source" or change["name"] in _OF_SOURCE[self.source]:
            self._refresh()

    def _refresh(self) -> None:
        """Follow another input or transform."""
        self._renew_input()
        self.set_trait("error", None)
        self._ask_on_change()

    def _ask_on_change(self) -> None:
        # What the work itself finds out, it uses at once.
        if self.run_on_change and self.complete and not self._worker.is_this_thread():
            self._worker.ask(_SETTLE_S)

    def _renew_input(self) -> None:
        self._input = self._source()
        self.set_trait("code", self._code())

    def _source(self) -> Source | None:
        model = self._model
        if model is None:
            return None
        inputs = tuple(model.inputs)
        if self.source == "upload":
            return Uploads(self.uploads, inputs)
        if self.source == "path":
            return LocalFiles(self.path, inputs)
        if self.source == "variable":
            return Variables(self.variable, self.namespace)
        if self.sample in EXAMPLES:
            return MadeUp(model, self.sample, self.sizes)
        return SamplePicture(self.sample)

    # --- running ---

    def run_once(self) -> None:
        """Run the model once, in the background; once more if it is running just now."""
        self._worker.ask()

    def wait(self, timeout_s: float = 60.0) -> bool:
        """Wait until nothing runs and nothing waits to run; False if that takes longer."""
        return self._worker.wait(timeout_s)

    def close(self) -> None:
        """Run nothing any more; an inference on its way ends unseen. Safe to repeat."""
        self._worker.close()
        self.keep_running = False
        self.run_on_change = False

    def view_opened(self) -> None:
        """Tell that one more view shows this."""
        self._viewers += 1

    def view_closed(self) -> None:
        """Tell that a view has gone; with the last one nothing runs by itself any more."""
        self._viewers -= 1
        if self._viewers == 0:
            self.keep_running = False
            self.run_on_change = False

    def _keep_changed(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self._worker.ask()

    def _work(self) -> None:
        """Run once, or for as long as it is wanted; in the worker's thread."""
        self._tell("running", True)
        try:
            if self.keep_running:
                self._repeat()
            else:
                self._publish_one()
        finally:
            self._tell("running", False)

    def _publish_one(self) -> None:
        came = self._attempt()
        if isinstance(came, InferenceResult):
            self._publish(came, self.count + 1)
        else:
            self._fail(came)

    def _repeat(self) -> None:
        ends: deque[float] = deque(maxlen=_RECENT)
        times_ms: deque[float] = deque(maxlen=_RECENT)
        count, told, result = 0, 0.0, None
        failure: tuple[str, str] | None = None
        while self.keep_running and not self._worker.closed:
            came = self._attempt()
            if not isinstance(came, InferenceResult):
                failure = came
                break
            result, now = came, time.monotonic()
            count += 1
            ends.append(now)
            times_ms.append(result.timings.total_ms)
            if now - told >= _TOLD_EVERY_S:
                told = now
                self._publish(result, count, ends, times_ms)
        if result is not None and result is not self.result:
            self._publish(result, count, ends, times_ms)
        if failure is not None:
            self._fail(failure)

    def _attempt(self) -> InferenceResult | tuple[str, str]:
        """Run once; give what came, or what failed and what to do."""
        try:
            self._follow_changes()
            source = self._input
            if source is None:
                raise ArgumentError("no model was chosen yet", "choose one: session.use(NAME)")
            return self.session.infer(source.value(), transform=self.edited, **self._options())
        except TritonicError as error:
            return error.message, error.remedy
        except Exception as error:  # variables of the notebook may raise anything
            return f"{type(error).__name__}: {error}", ""

    def _follow_changes(self) -> None:
        """Notice a model that was changed without a word."""
        try:
            model: ModelSpec | None = self.session.model_info
        except TritonicError:
            model = None
        if model is not self._model:
            self._follow_model()

    def _options(self) -> dict[str, Any]:
        return dict(_SEQUENCE) if self._model is not None and self._model.stateful else {}

    def _fail(self, said: tuple[str, str]) -> None:
        self._tell("error", said)
        self.keep_running = False

    def _publish(
        self,
        result: InferenceResult,
        count: int,
        ends: deque[float] | None = None,
        times_ms: deque[float] | None = None,
    ) -> None:
        self._tell("error", None)
        self._tell("stages", tuple(result.timings.stages().items()))
        self._tell("rate", _rate(ends or ()))
        self._tell("latency_ms", statistics.median(times_ms) if times_ms else 0.0)
        self._tell("result", result)
        self._tell("count", count)  # last: who observes it finds the others as they are

    def _tell(self, name: str, value: Any) -> None:
        if not self._worker.closed or name == "running":
            self.set_trait(name, value)

    # --- the code ---

    def _code(self) -> str:
        if self._input is None:
            return "# no model was chosen yet: session.use(NAME)\n"
        try:
            snippet = self._input.code()
        except TritonicError as error:
            return f"# {' '.join(error.message.split())}: {' '.join(error.remedy.split())}\n"
        return self._written(snippet)

    def _written(self, snippet: Snippet) -> str:
        imports, lines = set(snippet.imports), []
        arguments = [snippet.expression]
        if self.edited is not None:
            imports.add("import tritonic_nb as tnb")
            lines.append(f"transform = {_transform_code(self.edited)}\n")
            arguments.append("transform=transform")
        arguments += [f"{name}={value!r}" for name, value in self._options().items()]
        if snippet.comment:
            lines.append(f"# {snippet.comment}\n")
        call = call_code(f"{self._session_name()}.infer", arguments)
        lines.append(f"result = {call}\nresult.show()\n")
        head = "".join(f"{line}\n" for line in sorted(imports, key=_import_order))
        return (f"{head}\n" if head else "") + "".join(lines)

    def _session_name(self) -> str:
        """Return the name that the notebook has for the session."""
        for name, value in list(self.namespace.items()):
            if value is self.session and not name.startswith("_"):
                return name
        return "session"


def _one_of(value: str, choices: tuple[str, ...], name: str) -> str:
    if value not in choices:
        raise ArgumentError(f"{name} is {brief(value)}", f"use one of these: {', '.join(choices)}")
    return value


def _signature(model: ModelSpec | None) -> tuple[Any, ...]:
    """Return what an edited transform was made for."""
    if model is None:
        return ()
    hint = model.parameters.get("image_transform")
    return model.name, model.version, tuple(map(str, model.inputs.values())), hint


def _opened(made: list[int], layout: str, spec: TensorSpec) -> list[int]:
    """Return a shape with what the model wants where a side follows the picture."""
    return [
        max(want, 1) if axis in "HW" and size == 0 else size
        for axis, size, want in zip(layout, made, spec.shape, strict=False)
    ] + made[spec.rank :]


def _field(name: str, value: Any) -> Any:
    """Return a field's value, read from a text where it is one that holds numbers."""
    if not isinstance(value, str) or name not in (*_NUMBERS, *_WHOLE):
        return value
    parts = [part.strip() for part in value.split(",")]
    try:
        numbers = [int(p) if name in _WHOLE else _number(p) for p in parts]
    except (ValueError, ZeroDivisionError) as error:
        several = name in ("mean", "std")
        raise ArgumentError(
            f"{name} is {brief(value)}",
            "give one number, or one for each channel, separated by commas"
            if several
            else f"give a {'whole ' if name in _WHOLE else ''}number",
        ) from error
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(above)


def _rate(ends: Any) -> float:
    """Return the runs per second between the first and the last of these ends."""
    return (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0


def _transform_code(transform: ImageTransform) -> str:
    """Write a transform, without the fields that are as they always are."""
    usual = ImageTransform(transform.width, transform.height)
    arguments = [str(transform.width), str(transform.height)]
    for field in dataclasses.fields(transform):
        value = getattr(transform, field.name)
        if value != getattr(usual, field.name):
            arguments.append(f"{field.name}={_value_code(value)}")
    return call_code("tnb.ImageTransform", arguments)


def _value_code(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float) and 0 < value < 1 and 1 / round(1 / value) == value:
        return f"1 / {round(1 / value)}"
    return repr(value)


def _import_order(line: str) -> tuple[bool, str]:
    """Sort as isort does: the standard library's first."""
    return not line.startswith("from pathlib"), line
