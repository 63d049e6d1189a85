"""A client for Drainmark, which accepts writes over HTTP and can always say whether they are in the database.

    import drainmark

    with drainmark.Client("http://localhost:8080") as client:
        accepted = client.append("guestbook", "hello")
        client.wait(accepted.receipt)

Client blocks, AsyncClient is for async code, and otherwise they are the same. Everything that they raise is an Error.

A call that failed is made again where that does no harm: reading and asking always, appending because each append then
has an idempotency key, and everything else only if it was certainly not done.
"""

from ._async_client import AsyncClient
from ._client import Client
from ._errors import (
    BacklogFullError,
    ConflictError,
    DiskFullError,
    Error,
    ForbiddenError,
    InternalError,
    InvalidError,
    InvalidReceiptError,
    Kind,
    MediaTypeError,
    MethodError,
    MisconfiguredError,
    NotFoundError,
    NotReachedError,
    OutcomeUnknownError,
    PositionsError,
    ProtocolError,
    RateLimitedError,
    ReceiptExpiredError,
    RefusedError,
    RejectedError,
    TimedOut,
    TooLargeError,
    TooManyError,
    TransportError,
    UnauthenticatedError,
    UnavailableError,
)
from ._model import (
    Attempt,
    Backlog,
    Count,
    DeadLetter,
    LogInfo,
    Message,
    MissingRecords,
    NewMessage,
    Page,
    Partition,
    Placed,
    RejectedRecords,
    Settled,
    State,
    Status,
    Wanted,
    Working,
    Works,
    merge,
)
from ._retry import Retry
from ._tokens import token_file

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Attempt",
    "Backlog",
    "BacklogFullError",
    "Client",
    "ConflictError",
    "Count",
    "DeadLetter",
    "DiskFullError",
    "Error",
    "ForbiddenError",
    "InternalError",
    "InvalidError",
    "InvalidReceiptError",
    "Kind",
    "LogInfo",
    "MediaTypeError",
    "Message",
    "MethodError",
    "MisconfiguredError",
    "MissingRecords",
    "NewMessage",
    "NotFoundError",
    "NotReachedError",
    "OutcomeUnknownError",
    "Page",
    "Partition",
    "Placed",
    "PositionsError",
    "ProtocolError",
    "RateLimitedError",
    "ReceiptExpiredError",
    "RefusedError",
    "RejectedError",
    "RejectedRecords",
    "Retry",
    "Settled",
    "State",
    "Status",
    "TimedOut",
    "TooLargeError",
    "TooManyError",
    "TransportError",
    "UnauthenticatedError",
    "UnavailableError",
    "Wanted",
    "Working",
    "Works",
    "merge",
    "token_file",
]
