"""Both variants of iptables, by their own programs."""

from __future__ import annotations

import subprocess

Rule = tuple[str, ...]
PROGRAMS = {4: "iptables", 6: "ip6tables"}


class Variant:
    """One variant of iptables, both families."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *rule: str, version: int = 4) -> str:
        command = [f"{PROGRAMS[version]}-{self.name}", "-w", *rule]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def both(self, *rules: Rule) -> None:
        for version in (4, 6):
            for rule in rules:
                self.run(*rule, version=version)

    def listing(self, version: int) -> list[str]:
        """Without our comments."""
        lines = self.run("-S", version=version).splitlines()
        return [
            line.split(' -m comment --comment "netloom')[0] + line[line.rfind(" -j ") :] if "netloom:" in line else line
            for line in lines
        ]

    def jumps(self, version: int, chain: str = "NETLOOM-FORWARD") -> list[str]:
        return [line for line in self.listing(version) if line.endswith(f"-j {chain}")]
