"""Which errors of MLflow mean that the store does not answer at the moment, so that the same request may succeed later."""

from __future__ import annotations

from memberscope.outages import Unreachable, causes, is_database_outage

LATER = (408, 425, 429)  # HTTP's codes for "not now"; every code from 500 on is one as well


def is_outage(error: BaseException) -> bool:
    """Whether a server or database broke the connection, did not answer in time, or answered that it cannot serve at the moment."""
    from mlflow.exceptions import MlflowException, RestException
    from requests.exceptions import ConnectionError as RequestsConnectionError
    from requests.exceptions import HTTPError, RetryError, Timeout
    from urllib3.exceptions import HTTPError as Urllib3Error

    if is_database_outage(error):
        return True
    for cause in causes(error):
        if isinstance(
            cause, RequestsConnectionError | RetryError | Timeout | Urllib3Error | ConnectionError | TimeoutError | Unreachable
        ):
            return True
        if isinstance(cause, HTTPError) and cause.response is not None and _is_later(cause.response.status_code):
            return True
        if isinstance(cause, RestException) and _is_later(cause.get_http_status_code()):  # type: ignore[no-untyped-call]
            return True
        if isinstance(cause, MlflowException) and cause.error_code in ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"):
            return True
    return False


def is_answer(error: BaseException) -> bool:
    """Whether a server is there, and answered with an error."""
    from mlflow.exceptions import RestException
    from requests.exceptions import HTTPError, RetryError

    return any(isinstance(cause, RestException | HTTPError | RetryError) for cause in causes(error))


def _is_later(code: int) -> bool:
    return code >= 500 or code in LATER
