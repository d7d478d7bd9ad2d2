"""Who we are to the store, wherever that is written.

What is written in a file is read again for every request (a tenth of a millisecond), so that
whoever renews short-lived credentials replaces the file and tells nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

from minio.credentials.credentials import Credentials
from minio.credentials.providers import AWSConfigProvider, Provider, StaticProvider

from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.problems import NO_CREDENTIALS, Refused

FILE_VARIABLE = "AWS_SHARED_CREDENTIALS_FILE"
PROFILE_VARIABLE = "AWS_PROFILE"


class Identity(Provider):
    """Credentials that are read anew for every request; a trouble with them is the store's."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def retrieve(self) -> Credentials:
        """Those that count now.

        Raises:
            Refused: The file has none; somebody has to put them there.
        """
        try:
            return self._provider.retrieve()
        except Exception as error:
            # A ValueError, or whatever configparser has to say about what is not such a file.
            message = f"the store's credentials cannot be read: {error}"
            raise Refused(0, NO_CREDENTIALS, message) from error


def find_credentials(config: S3Config, environment: Mapping[str, str]) -> Identity:
    """Choose among the settings, the file that they name, and the environment, in this order.

    Raises:
        ValueError: There are none; the message says where they may be.
    """
    if config.access_key is not None:
        return Identity(
            StaticProvider(config.access_key, config.secret_key or "", config.session_token)
        )
    if config.credentials_file is not None:
        return Identity(AWSConfigProvider(str(config.credentials_file), config.profile))
    if access_key := environment.get("AWS_ACCESS_KEY_ID"):
        secret_key = environment.get("AWS_SECRET_ACCESS_KEY")
        if not secret_key:
            raise ValueError("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not; set both")
        return Identity(
            StaticProvider(access_key, secret_key, environment.get("AWS_SESSION_TOKEN"))
        )
    if file := environment.get(FILE_VARIABLE):
        return Identity(
            AWSConfigProvider(file, environment.get(PROFILE_VARIABLE) or config.profile)
        )
    raise ValueError(
        "store.s3 has no credentials; set access_key and secret_key, or credentials_file, or "
        f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or {FILE_VARIABLE}"
    )
