"""Finds edges in a picture: the Sobel gradient of its luma."""

import numpy as np
import triton_python_backend_utils as pb_utils

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class TritonPythonModel:
    """Turns an RGB picture into a gradient (d/dx, d/dy) and its magnitude."""

    def execute(self, requests):
        """Answer each request."""
        responses = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            gradient = sobel(image.astype(np.float32) @ LUMA)
            magnitude = np.hypot(gradient[..., 0], gradient[..., 1])
            responses.append(
                pb_utils.InferenceResponse(
                    [
                        pb_utils.Tensor("gradient", gradient),
                        pb_utils.Tensor("magnitude", magnitude),
                    ]
                )
            )
        return responses


def sobel(luma):
    """Return d/dx and d/dy in luma steps per pixel; the border repeats its last pixel."""
    padded = np.pad(luma, 1, mode="edge")
    across = padded[:, 2:] - padded[:, :-2]
    down = padded[2:, :] - padded[:-2, :]
    dx = (across[:-2] + 2 * across[1:-1] + across[2:]) / 8
    dy = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 8
    return np.stack([dx, dy], axis=-1)
