"""Adds two tensors where they lie, with PyTorch or CuPy, and says where that was."""

import importlib
import json
import sys

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Its parameter `packages` names a folder where PyTorch or CuPy may be, besides its own."""

    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        folder = parameters.get("packages", {}).get("string_value", "")
        if folder:
            # Last: the backend needs the NumPy of its own environment.
            sys.path.append(folder)
        self.library, reasons = None, []
        for name in ("torch", "cupy"):
            try:
                self.library = self.library or importlib.import_module(name)
            except Exception as error:
                reasons.append(f"{name}: {type(error).__name__}: {error}")
        if self.library is None:
            raise RuntimeError(f"neither PyTorch nor CuPy: {'; '.join(reasons)}")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        names = ("INPUT0", "INPUT1")
        given = [pb_utils.get_input_tensor_by_name(request, name) for name in names]
        # CuPy takes none of a host.
        left, right = (
            tensor.as_numpy()
            if tensor.is_cpu() and self.library.__name__ == "cupy"
            else self.library.from_dlpack(tensor)
            for tensor in given
        )
        total = left + right
        if isinstance(total, np.ndarray):
            output = pb_utils.Tensor("SUM", total)
        else:  # not as a capsule: the backend then waits for the stream that it is made on
            output = pb_utils.Tensor.from_dlpack("SUM", total)
        places = np.array([not tensor.is_cpu() for tensor in (*given, output)])
        return pb_utils.InferenceResponse([output, pb_utils.Tensor("ON_DEVICE", places)])
