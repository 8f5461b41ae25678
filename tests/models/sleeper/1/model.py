"""Sleeps for as many seconds as it is told and gives the number back."""

import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            seconds = pb_utils.get_input_tensor_by_name(request, "SECONDS").as_numpy()
            time.sleep(float(seconds[0]))
            slept = pb_utils.Tensor("SLEPT", seconds)
            responses.append(pb_utils.InferenceResponse([slept]))
        return responses
