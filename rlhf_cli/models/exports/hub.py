"""Upload a folder to a hub of models, with the token of the environment alone."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rlhf_cli.errors import UserError, bad_disk, first_line

TOKEN: Final = "HF_TOKEN"


def upload(folder: Path, files: Sequence[str], repo: str, message: str, *, private: bool) -> str:
    """Upload files of a folder (patterns) as one commit; make the repository where there is none, and return its URL.

    A new repository is private or not, one that exists stays as it is. The hub is that of HF_ENDPOINT, or Hugging
    Face's. Raises UserError: exit 2 for a name that no repository can have and without a token, exit 6 where the hub
    refuses or is not reached.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    token = os.environ.get(TOKEN)
    if not token:
        raise UserError("no token that may write", where=TOKEN, fix=f"export {TOKEN}=...")
    disable_progress_bars()
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        url = str(api.create_repo(repo, private=private, exist_ok=True))
        api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=list(files), commit_message=message)
    except HFValidationError as error:
        raise UserError(f"no name of a repository: {first_line(error)}", where=repo, fix="NAME/MODEL") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        fix = f"give {TOKEN} a token that may write there" if status in (401, 403) else "try again later"
        raise bad_disk(f"the hub answers {status} {error.response.reason_phrase}", repo, fix) from error
    except (HTTPError, OSError) as error:
        raise bad_disk(f"the hub is not reached: {first_line(error)}", repo, "try again later") from error
    return url
