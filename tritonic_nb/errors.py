"""Every error this package raises, in one hierarchy.

::

    TritonicError
    ├── SessionClosedError          the session was closed; open a new one
    ├── ArgumentError               an argument that no model or server could make right
    ├── ExecutorError               an executor did not do some items of a map
    ├── ServerError
    │   ├── NoReplyError            a request went out, or did not, and no reply came
    │   │   ├── ServerUnreachableError  nothing answers at that address
    │   │   └── ServerTimeoutError      the server took longer than the time limit
    │   ├── ServerBusyError         too much to do there; it has not begun with this request
    │   ├── ServerRefusedError      the server answered with an error of its own
    │   ├── RestrictedApiError      the server demands a header for this API
    │   ├── ServerStartError        an embedded server did not come up
    │   └── RuntimeUnavailableError the embedded server cannot be prepared here
    ├── ModelError
    │   ├── ModelNotFoundError      no such model (or version) in the repository
    │   ├── ModelNotReadyError      the model exists and is not loaded
    │   ├── ModelLoadError          the server tried to load it and failed
    │   ├── ModelFailedError        the model's own code failed at an inference
    │   └── ModelFileError          a model file or folder that cannot be served
    ├── TensorError
    │   ├── TensorNameError         an input or output the model does not have
    │   ├── TensorDatatypeError     the wrong datatype
    │   ├── TensorShapeError        the wrong rank or dimension
    │   └── BatchSizeError          a larger batch than the model takes
    ├── SharedMemoryError
    │   ├── RegionTooSmallError     the tensor needs more bytes than the region has
    │   ├── NoSpaceError            /dev/shm, or the device's memory, is too full
    │   ├── RegionNotVisibleError   the server cannot open the region
    │   ├── RegionLostError         the server no longer knows the region
    │   ├── RegionKnownError        the server has a region of that name already
    │   ├── RegionInUseError        a request still uses the region
    │   ├── SharedMemoryDisabledError     switched off on the server
    │   ├── SharedMemoryUnsupportedError  not on this platform
    │   └── NoCudaDeviceError       no such CUDA device to hold a region
    └── ImageError
        ├── ImageReadError          not a readable picture
        └── ImageTooLargeError      more pixels than the limit: a decompression bomb

A message says what failed, with which tensor, region or model and which
numbers; :attr:`TritonicError.remedy` says what to do about it, and ``str()``
shows both.
"""

from __future__ import annotations

from numbers import Integral

__all__ = [
    "ArgumentError",
    "BatchSizeError",
    "ExecutorError",
    "ImageError",
    "ImageReadError",
    "ImageTooLargeError",
    "ModelError",
    "ModelFailedError",
    "ModelFileError",
    "ModelLoadError",
    "ModelNotFoundError",
    "ModelNotReadyError",
    "NoCudaDeviceError",
    "NoReplyError",
    "NoSpaceError",
    "RegionInUseError",
    "RegionKnownError",
    "RegionLostError",
    "RegionNotVisibleError",
    "RegionTooSmallError",
    "RestrictedApiError",
    "RuntimeUnavailableError",
    "ServerBusyError",
    "ServerError",
    "ServerRefusedError",
    "ServerStartError",
    "ServerTimeoutError",
    "ServerUnreachableError",
    "SessionClosedError",
    "SharedMemoryDisabledError",
    "SharedMemoryError",
    "SharedMemoryUnsupportedError",
    "TensorDatatypeError",
    "TensorError",
    "TensorNameError",
    "TensorShapeError",
    "TritonicError",
]


_LONGEST_BRIEF = 100


def brief(value: object) -> str:
    """Return a value in short for a message, whatever it is.

    ``repr`` alone may fail (integers of more than 4300 digits do), or be as long as the value.
    """
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_BRIEF else f"{text[: _LONGEST_BRIEF - 1]}…"


def check_whole(value: object, lowest: int, name: str, remedy: str) -> None:
    """Refuse what is no whole number from `lowest` on.

    Raises
    ------
    ArgumentError
        With the argument's name and the remedy.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < lowest:  # type: ignore[operator]
        raise ArgumentError(f"{name} is {brief(value)}", remedy)


class TritonicError(Exception):
    """The base of every error this package raises.

    Parameters
    ----------
    message
        What failed, with which tensor, region, model or address, and the numbers.
    remedy
        What to do about it, as an instruction. May be empty.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        # Names in it may have half characters (JSON and file names can), which nobody can print.
        message, remedy = (text.encode("utf-8", "replace").decode() for text in (message, remedy))
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def locate(self, where: str) -> None:
        """Say first where it happened, such as ``"item 7"``; class and attributes stay."""
        self.message = f"{where}: {self.message}"
        self.args = (self.message, self.remedy)

    def __str__(self) -> str:
        return f"{self.message}\n  What to do: {self.remedy}" if self.remedy else self.message


class SessionClosedError(TritonicError):
    """The session was closed and cannot be used again."""


class ArgumentError(TritonicError, ValueError):
    """An argument is not of the form that the call takes."""


class ExecutorError(TritonicError):
    """An executor did not do some items of a map: its workers died, or it was shut down.

    Attributes
    ----------
    items
        The numbers of the items that it is about, from 0.
    given
        How many results had been given before.
    """

    items: range = range(0)
    given: int = 0


class ServerError(TritonicError):
    """The server could not be reached, started, or would not do what was asked."""


class NoReplyError(ServerError):
    """No reply came; the server may or may not have done what it was asked.

    Attributes
    ----------
    sent
        Whether the server may have got the request, or some of it.
    lasting
        Whether another try would end like this one: what answers there is no Triton, or its
        certificate is not trusted.
    """

    sent: bool = True
    lasting: bool = False


class ServerUnreachableError(NoReplyError):
    """Nothing that speaks Triton's protocol answers at the address."""


class ServerTimeoutError(NoReplyError):
    """The server did not answer within the time limit."""


class ServerBusyError(ServerError):
    """The server, or a gateway before it, has too much to do, and has not begun with this.

    Attributes
    ----------
    after_s
        When it wants to be asked again, in seconds; 0 where it does not say.
    """

    after_s: float = 0.0


class ServerRefusedError(ServerError):
    """The server answered with an error that has no class of its own here."""


class RestrictedApiError(ServerError):
    """The server demands a header before it opens this API."""


class ServerStartError(ServerError):
    """An embedded server ended, or was not ready in time."""


class RuntimeUnavailableError(ServerError):
    """The embedded server cannot be prepared on this machine."""


class ModelError(TritonicError):
    """Something is wrong with a model rather than with a request."""


class ModelNotFoundError(ModelError, LookupError):
    """The server's repository has no such model or version."""


class ModelNotReadyError(ModelError):
    """The model is in the repository and is not loaded."""


class ModelLoadError(ModelError):
    """The server could not load the model; the message carries its reason."""


class ModelFailedError(ModelError):
    """The model itself raised an error; the message carries it."""


class ModelFileError(ModelError, ValueError):
    """A model file or folder cannot be read or is of a kind that cannot be served."""


class TensorError(TritonicError, ValueError):
    """A tensor does not fit the model."""


class TensorNameError(TensorError, KeyError):
    """The model has no input or output of this name, or one was not given."""


class TensorDatatypeError(TensorError, TypeError):
    """The array's datatype is not the one that the model takes."""


class TensorShapeError(TensorError):
    """The array's rank or a dimension is not the one that the model takes."""


class BatchSizeError(TensorError):
    """The batch is larger than the model's ``max_batch_size``, or differs between inputs."""


class SharedMemoryError(TritonicError):
    """A shared-memory region could not be made, registered, written or read."""


class RegionTooSmallError(SharedMemoryError):
    """A tensor needs more bytes than its region has.

    Attributes
    ----------
    tensor, needed_nbytes
        The output, and the bytes that the server asked for, where it said so.
    """

    tensor: str = ""
    needed_nbytes: int = 0


class NoSpaceError(SharedMemoryError):
    """``/dev/shm``, or a CUDA device, has too little free memory for the region."""


class RegionNotVisibleError(SharedMemoryError):
    """The server cannot open the region: another host, another container, or not that GPU."""


class RegionLostError(SharedMemoryError):
    """The server no longer knows a region that was registered: it was restarted, most likely."""


class RegionKnownError(SharedMemoryError):
    """The server has registered a region of that name already."""


class RegionInUseError(SharedMemoryError):
    """The server still uses the region for a request."""


class SharedMemoryDisabledError(SharedMemoryError):
    """The server was started without shared memory for clients."""


class SharedMemoryUnsupportedError(SharedMemoryError):
    """This platform or server has no shared memory of the kind that was asked for."""


class NoCudaDeviceError(SharedMemoryError):
    """CUDA shared memory was asked for and there is no CUDA device, or none of that number."""


class ImageError(TritonicError, ValueError):
    """A picture could not be turned into a tensor."""


class ImageReadError(ImageError):
    """The file is missing, truncated, or not a picture in a known format."""


class ImageTooLargeError(ImageError):
    """The picture has more pixels than the limit."""
