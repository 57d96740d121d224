"""Learned policies on the Hugging Face Hub: ``save_pretrained``, ``from_pretrained``, push.

::

    HubPolicy(policy.network).push_to_hub("someone/my-lr-policy")
    scheduler = PolicyLR(optimizer, HubPolicy.from_pretrained("someone/my-lr-policy"), total_steps)
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, hf_hub_download

from asg_env.files import BadFile
from asg_env.policies.loading import policy_kind
from asg_env.policies.recurrent import LearnedPolicy, RecurrentPolicy, load_policy, save_policy

FILES = ("policy.json", "policy.safetensors")  # all that is ever read of a repository
KIND = "recurrent"


class HubPolicy(
    LearnedPolicy,
    ModelHubMixin,
    library_name="asg_env",
    tags=["learning-rate", "learned-optimization", "fine-tuning"],
):
    """A learned policy that can be saved for, loaded from and pushed to the Hub.

    A repository holds ``policy.json`` and ``policy.safetensors``, the files of a policy folder, so
    that :func:`asg_env.policies.load` reads a downloaded one, too. No code of it is run: other
    files, ``config.json`` included, are not even read.

    Args:
        network: of a policy: ``load(path).network``.
        greedy, name: see :class:`asg_env.policies.recurrent.LearnedPolicy`.
    """

    def __init__(
        self, network: RecurrentPolicy, greedy: bool | None = None, name: str = "learned"
    ) -> None:
        super().__init__(network, greedy, name)
        self._hub_mixin_config = None  # policy.json says it all

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write both files; how it is deployed belongs to them."""
        network = RecurrentPolicy(dataclasses.replace(self.network.args, greedy=self.greedy))
        network.load_state_dict(self.network.state_dict())
        save_policy(network, save_directory)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        greedy: bool | None = None,
        name: str | None = None,
        **download: Any,
    ) -> HubPolicy:
        """The policy of a folder, or of a repository on the Hub.

        Args:
            pretrained_model_name_or_path: the folder, or ``"owner/name"``.
            greedy: see :class:`HubPolicy`; None: as it was made for.
            name: shown in tables; None: the folder's or the repository's.
            download: of :func:`huggingface_hub.hf_hub_download`: ``revision``, ``token``,
                ``cache_dir``, ``local_files_only``, ``force_download``.

        Raises:
            FileNotFoundError: the folder holds no policy.
            BadFile: a file is damaged, or of another kind of policy.
            Exception: of huggingface_hub, if there is no such repository or no network.
        """
        where, folder = str(pretrained_model_name_or_path), Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            found = [hf_hub_download(where, file, **download) for file in FILES]
            folder = Path(found[0]).parent
        kind = policy_kind(folder)
        if kind != KIND:
            raise BadFile(
                f"{where}: a policy of kind {kind!r}, expected {KIND!r}: download the folder and "
                "give it to asg_env.policies.load()"
            )
        return cls(load_policy(folder), greedy, name or where.rstrip("/").rpartition("/")[2])
