"""Ansible's way into a booted release: as `local`, but in the namespaces of its first process."""

from __future__ import annotations

import shlex
import shutil
from typing import Any

from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = """
name: inside
short_description: the namespaces of a process of this machine
description:
  - Commands run in all namespaces of the process inside_pid, files are put below its root.
options:
  pid:
    description: The process.
    type: int
    required: true
    vars:
      - name: inside_pid
"""
CLEAN = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 sh -c"


class Connection(Local):  # type: ignore[misc]  # Ansible has no types
    """What `local` does, elsewhere."""

    transport = "inside"

    def exec_command(self, cmd: str, in_data: Any = None, sudoable: Any = True) -> Any:
        pid = self.get_option("pid")
        command = f"nsenter -t {pid} -a {CLEAN} {shlex.quote(cmd)}"
        return super().exec_command(command, in_data=in_data, sudoable=sudoable)

    def put_file(self, in_path: str, out_path: str) -> None:
        # Not as `local` does it, which would follow /proc/PID/root to its own root.
        shutil.copyfile(in_path, self._below(out_path))

    def fetch_file(self, in_path: str, out_path: str) -> None:
        shutil.copyfile(self._below(in_path), out_path)

    def _below(self, path: str) -> str:
        return f"/proc/{self.get_option('pid')}/root{path}"
