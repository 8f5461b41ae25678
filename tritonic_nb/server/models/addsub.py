"""Adds and subtracts two vectors: OUTPUT0 is the sum, OUTPUT1 the difference."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Works on any integer datatype, and on numbers written as decimal strings."""

    def initialize(self, args):
        """Read from the configuration whether numbers come as strings."""
        config = json.loads(args["model_config"])
        self.as_text = config["input"][0]["data_type"] == "TYPE_STRING"

    def execute(self, requests):
        """Answer each request."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """Answer one request, or say which text is not a number."""
        try:
            left, right = (self.read(request, name) for name in ("INPUT0", "INPUT1"))
        except ValueError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        return pb_utils.InferenceResponse(
            [self.write("OUTPUT0", left + right), self.write("OUTPUT1", left - right)]
        )

    def read(self, request, name):
        """Return one input as an array of numbers."""
        array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
        return array.astype(np.int64) if self.as_text else array

    def write(self, name, numbers):
        """Make one output of an array of numbers."""
        if self.as_text:
            numbers = np.char.encode(numbers.astype(str), "ascii").astype(np.object_)
        return pb_utils.Tensor(name, numbers)
