"""`qwenctl completion`: a script that makes a shell complete commands, options, models and files.

The scripts only ask `qwenctl complete-words` (`names`), so they stay right when the commands change.
"""

from typing import Annotated, Final

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError

# Bash makes words of their own out of `:` and `=`; they are joined again, and what it holds to be finished
# is cut off the candidates.
_BASH: Final = r"""# bash completion for qwenctl, printed by `qwenctl completion bash`

_qwenctl() {
    local words=() word cut="" i
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        if ((${#words[@]})) && [[ $word == [:=]* || ${words[${#words[@]} - 1]} == *[:=] ]]; then
            words[${#words[@]} - 1]+="$word"
        else
            words+=("$word")
        fi
    done
    word="${words[${#words[@]} - 1]}"
    if [[ $COMP_WORDBREAKS == *:* && $word == *[:=]* ]]; then
        cut="${word%"${word##*[:=]}"}"
    fi
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        if [[ $word == :files ]]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r word; do
                COMPREPLY+=("$word")
            done < <(compgen -f -- "${words[${#words[@]} - 1]:${#cut}}")
        else
            COMPREPLY+=("${word:${#cut}}")
        fi
    done < <("${COMP_WORDS[0]/#\~/$HOME}" complete-words -- "${words[@]}" 2>/dev/null)
}

complete -o nosort -F _qwenctl qwenctl 2>/dev/null || complete -F _qwenctl qwenctl
"""

_ZSH: Final = r"""#compdef qwenctl
# zsh completion for qwenctl, printed by `qwenctl completion zsh`

_qwenctl() {
    local line word
    local -a asked lines values
    asked=("${(Q)words[1]/#\~/$HOME}" complete-words -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
    lines=("${(@f)$("${asked[@]}" 2>/dev/null)}")
    for line in "${lines[@]}"; do
        [[ -n $line ]] || continue
        if [[ $line == :files ]]; then
            [[ $PREFIX == --*=* ]] && compset -P '*='
            _files
            return
        fi
        word="${line%%$'\t'*}"
        if [[ $line == *$'\t'* ]]; then
            values+=("${word//:/\\:}:${line#*$'\t'}")
        else
            values+=("${word//:/\\:}")
        fi
    done
    ((${#values})) && _describe -V qwenctl values -U
}

if [[ $funcstack[1] == _qwenctl ]]; then
    _qwenctl "$@"
else
    compdef _qwenctl qwenctl
fi
"""

_FISH: Final = r"""# fish completion for qwenctl, printed by `qwenctl completion fish`

function __qwenctl_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l lines (eval $words[1] complete-words -- (string escape -- $words[2..-1] "$word") 2>/dev/null)
    if test "$lines[1]" = ":files"
        set -l path (string replace -r '^--[^=]*=' '' -- "$word")
        set -l option (string match -r '^--[^=]*=' -- "$word")
        for found in (__fish_complete_path "$path")
            echo "$option$found"
        end
    else
        printf '%s\n' $lines
    end
end

complete -c qwenctl -e
complete -c qwenctl -f -k -a '(__qwenctl_complete)'
"""

SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
PLACES: Final = {
    "bash": "completions/qwenctl.bash",
    "zsh": "completions/_qwenctl",
    "fish": "completions/qwenctl.fish",
}
"""Where the generated scripts lie in the sources; the wheel installs them into `share/`."""


class Script(msgspec.Struct, frozen=True):
    """The data of `completion --json`."""

    shell: str
    script: str


def completion(
    shell: Annotated[
        str | None, typer.Argument(metavar="[bash|zsh|fish]", help="The shell; yours without one.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the script that completes commands, options, models and files in your shell.

    Examples: eval "$(qwenctl completion bash)" · qwenctl completion zsh > ~/.zfunc/_qwenctl
    · qwenctl completion fish > ~/.config/fish/completions/qwenctl.fish
    """
    name = shell or _own_shell()
    if name not in SCRIPTS:
        raise UsageError(f"there is no completion for `{name}`", hint=f"write one of {', '.join(SCRIPTS)}")
    Printer("completion", json).result(Script(name, SCRIPTS[name]), SCRIPTS[name].rstrip("\n"))


def _own_shell() -> str:
    import os
    from pathlib import Path

    return Path(os.environ.get("SHELL", "")).name or "unknown"
