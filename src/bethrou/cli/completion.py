"""`bethrou completion`: what a shell needs to complete our commands and options."""

from __future__ import annotations

import click.shell_completion

from bethrou.errors import ConfigError

PROGRAMS = ("bethrou", "bethrou-node", "bethrou-client")
SHELLS = ("bash", "zsh", "fish")


def completion_script(shell: str) -> str:
    """The lines that `shell` has to read. Raises ConfigError for a shell that is not among `SHELLS`."""
    kind = click.shell_completion.get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise ConfigError(f"SHELL must be one of {', '.join(SHELLS)}")
    return "\n".join(_script(kind, program, shell) for program in PROGRAMS)


def _script(kind: type[click.shell_completion.ShellComplete], program: str, shell: str) -> str:
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    source = kind(click.Command(program), {}, program, variable).source()
    # Typer, which answers, has the words of this instruction the other way round than Click, which writes it.
    return source.replace(f"{shell}_complete", f"complete_{shell}")
