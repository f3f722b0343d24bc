# bash completion for qwenctl, printed by `qwenctl completion bash`

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
