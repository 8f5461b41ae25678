"""Serves an ONNX file with ONNX Runtime."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One ONNX Runtime session; one run for each request."""

    def initialize(self, args):
        """Open the file."""
        config = json.loads(args["model_config"])
        self.batched = config["max_batch_size"] > 0
        link = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        # The link's target, because weights kept outside the file are looked for beside it;
        # and one step only, because the target may be a link itself, away from its weights.
        # In bytes, because this Python takes file names for ASCII.
        target = os.readlink(os.fsencode(link)).decode("utf-8")  # noqa: PTH115 - bytes
        self.session = onnxruntime.InferenceSession(
            target, sess_options=session_options(), providers=providers()
        )
        self.ranks = {node.name: len(node.shape) for node in self.session.get_inputs()}

    def execute(self, requests):
        """Answer each request."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """Run the model for one request; its own words where it refuses."""
        names = list(request.requested_output_names())
        try:
            arrays = self.session.run(names, self.feed(request))
        except Exception as error:
            said = f"ONNX Runtime: {error}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(said))
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, self.padded(as_bytes(array)))
                for name, array in zip(names, arrays, strict=True)
            ]
        )

    def feed(self, request):
        """Return a request's inputs as ONNX Runtime takes them."""
        arrays = {}
        for name, rank in self.ranks.items():
            array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            # Triton's configuration has a [1] where the model has no dimension.
            array = array.reshape(array.shape[:rank]) if rank <= self.batched else array
            arrays[name] = as_text(array, name) if array.dtype == np.object_ else array
        return arrays

    def padded(self, array):
        """Give an array the one dimension besides the batch that Triton wants."""
        return array.reshape(*array.shape, 1) if array.ndim <= self.batched else array

    def finalize(self):
        """Let go of the file and its threads."""
        self.session = None


def session_options():
    """Use the processors this process may use, and do not spin while idle.

    The notebook that asks runs on the same processors.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def providers():
    """Return the GPU first where this ONNX Runtime knows one."""
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in wanted if name in onnxruntime.get_available_providers()]


def as_text(array, name):
    """Return an array of bytes as an array of text, which is what strings are in ONNX."""
    decoded = []
    for index, item in enumerate(array.ravel()):
        try:
            decoded.append(item.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"element {index} of input '{name}' is not text: {error}") from error
    return np.array(decoded, dtype=np.object_).reshape(array.shape)


def as_bytes(array):
    """Return an array that Triton takes: text as bytes, everything else as it is."""
    array = np.asarray(array)
    if array.dtype.kind not in "OU":
        return array
    encoded = [str(item).encode("utf-8") for item in array.ravel()]
    return np.array(encoded, dtype=np.object_).reshape(array.shape)
