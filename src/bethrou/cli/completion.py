"""`bethrou completion`: what a shell needs to complete our commands and options.

The scripts hold all of them, so that a shell need not start Python at each press of the key; they are made anew with
each version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import typer.main

from bethrou.errors import ConfigError

if TYPE_CHECKING:
    from typer.core import TyperCommand, TyperGroup

SHELLS = ("bash", "zsh", "fish")


class Command(NamedTuple):
    """A program, or a command of one."""

    path: str
    """Words behind the program's name; "" for the program itself."""
    commands: Sequence[tuple[str, str]]
    """Names and descriptions of the commands in it."""
    options: Sequence[str]
    """Long ones."""


def completion_script(shell: str, programs: Mapping[str, typer.Typer]) -> str:
    """The lines that `shell` has to read. Raises ConfigError for a shell that is not among `SHELLS`."""
    if shell not in SHELLS:
        raise ConfigError(f"SHELL must be one of {', '.join(SHELLS)}")
    write = _fish if shell == "fish" else _bash
    scripts = [write(name, list(commands_of(app))) for name, app in programs.items()]
    # zsh reads bash's scripts after this
    head = ["autoload -U +X compinit bashcompinit", "compinit", "bashcompinit"] if shell == "zsh" else []
    return "\n".join(head + scripts)


def commands_of(app: typer.Typer) -> Iterator[Command]:
    """All commands of a program, itself first."""
    yield from _walk("", typer.main.get_command(app))  # type: ignore[arg-type]  # all are Typer's


def _walk(path: str, command: TyperCommand | TyperGroup) -> Iterator[Command]:
    options = [option for each in command.params for option in each.opts if option.startswith("--")]
    inner: dict[str, TyperCommand | TyperGroup] = vars(command).get("commands", {})
    named = [(name, (each.help or "").splitlines()[0] if each.help else "") for name, each in inner.items()]
    yield Command(path, named, ["--help", *options])
    for name, each in inner.items():
        yield from _walk(f"{path} {name}".strip(), each)


def _bash(program: str, commands: Sequence[Command]) -> str:
    function = f"_{program.replace('-', '_')}"
    known = "|".join(command.path for command in commands)
    cases = []
    for command in commands:
        words = " ".join([*(name for name, _ in command.commands), *command.options])
        cases.append(f'        "{command.path}") words="{words}" ;;')
    return f"""\
{function}() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" path="" words="" next i
    for ((i = 1; i < COMP_CWORD; i++)); do
        next="${{path:+$path }}${{COMP_WORDS[i]}}"
        case "|{known}|" in *"|$next|"*) path="$next" ;; esac
    done
    case "$path" in
{chr(10).join(cases)}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F {function} {program}"""


def _fish(program: str, commands: Sequence[Command]) -> str:
    lines = []
    for command in commands:
        here = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.path.split())
        inner = " ".join(name for name, _ in command.commands)
        where = "; and ".join(
            part for part in (here, f"not __fish_seen_subcommand_from {inner}" if inner else "") if part
        )
        line = f"complete -c {program} -n '{where}'"
        for name, text in command.commands:
            quoted = text.replace("\\", "\\\\").replace("'", "\\'")
            lines.append(f"{line} -f -a {name} -d '{quoted}'")
        lines += [f"{line} -l {option.removeprefix('--')}" for option in command.options]
    return "\n".join(lines)
