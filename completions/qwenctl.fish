# fish completion for qwenctl, printed by `qwenctl completion fish`

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
