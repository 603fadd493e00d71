"""The parts of the completions that no table knows: how a shell reads the line so far. ``completion`` fills them in."""

from __future__ import annotations

from typing import Final

BASH: Final = r"""# bash completion of ocirt(1), made by: ocirt completion bash

# What --NAME and its like are there after a command.
_ocirt_flags() {
    case "$1" in
@flags@
    esac
}

# What follows a flag: "COMMAND --FLAG".
_ocirt_values() {
    case "$1" in
@values@
    esac
}

# What an argument may be: "COMMAND PLACE".
_ocirt_arguments() {
    case "$1" in
@offers@
    esac
}

_ocirt_offer() {
    local word=$2
    case "$1" in
        ""|NOTHING) ;;
        FILE) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        DIRECTORY) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
        CONTAINER) mapfile -t COMPREPLY < <(compgen -W "$("${ocirt[@]}" list -q 2>/dev/null)" -- "$word") ;;
        SIGNAL) mapfile -t COMPREPLY < <(compgen -W "@signals@" -- "$word") ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$word") ;;
    esac
}

# "=" is a word of its own here (COMP_WORDBREAKS), between a flag and its value.
_ocirt() {
    local ocirt=("${COMP_WORDS[0]}") command="" flag="" ended="" place=0 i word
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == "=" ]]; then
            [[ $flag ]] || flag="--value-of-a-switch"
        elif [[ $flag ]]; then
            [[ $flag == --root ]] && ocirt+=(--root "$word")
            flag=""
        elif [[ $word == -* && ! $ended ]]; then
            [[ $word == -??* && $word != --* ]] && word="-$word"
            [[ $(_ocirt_values "$command $word") ]] && flag=$word
        elif [[ ! $command ]]; then
            command=$word
        elif [[ " @groups@ " == *" $command "* ]]; then
            command+=" $word"
        else
            ((place += 1))
            case "$command" in @stops@) ended=yes ;; esac
        fi
    done
    word=${COMP_WORDS[COMP_CWORD]}
    if [[ $flag ]]; then
        _ocirt_offer "$(_ocirt_values "$command $flag")" "${word#=}"
    elif [[ $word == -* && ! $ended ]]; then
        _ocirt_offer "$(_ocirt_flags "$command")" "$word"
    elif [[ ! $command ]]; then
        _ocirt_offer "@commands@" "$word"
    else
        _ocirt_offer "$(_ocirt_arguments "$command $place")" "$word"
    fi
}

complete -F _ocirt ocirt
"""

ZSH: Final = r"""#compdef ocirt
# zsh completion of ocirt(1), made by: ocirt completion zsh

_ocirt_commands() {
    local -a commands
    commands=(
@commands@
    )
    _describe command commands
}

_ocirt_containers() {
    local -a ids
    ids=(${(f)"$(ocirt $ocirt_root list -q 2>/dev/null)"})
    (( $#ids )) && compadd -a ids
}

_ocirt_signals() {
    compadd @signals@
}

_ocirt() {
    local curcontext="$curcontext" state line ret=1
    local -a ocirt_root
    local -A opt_args
    _arguments -C \
        @globals@ \
        '1:command:_ocirt_commands' \
        '*:: :->argument' && ret=0
    if [[ $state == argument ]]; then
        [[ -n $opt_args[--root] ]] && ocirt_root=(--root $opt_args[--root])
        if [[ " @groups@ " == *" $words[1] "* ]] && (( CURRENT > 2 )); then
            words=("$words[1] $words[2]" "${(@)words[3,-1]}")
            (( CURRENT-- ))
        fi
        case $words[1] in
@cases@
        esac
    fi
    return ret
}

if [[ $funcstack[1] == _ocirt ]]; then
    _ocirt "$@"
else
    compdef _ocirt ocirt
fi
"""

FISH: Final = r"""# fish completion of ocirt(1), made by: ocirt completion fish

# "COMMAND --FLAG" for each flag that takes the word behind it.
set -g __ocirt_taking \
    @taking@

# Prints the command before the cursor, and how many arguments it has so far.
function __ocirt_place
    set -l command ''
    set -l place 0
    set -l taken no
    for word in (commandline -opc)[2..]
        if test $taken = yes
            set taken no
        else if string match -q -- '-*' $word
            contains -- "$command $word" $__ocirt_taking; and set taken yes
        else if test -z "$command"
            set command $word
        else if contains -- "$command" @groups@
            set command "$command $word"
        else
            set place (math $place + 1)
        end
    end
    printf '%s\n%s\n' "$command" $place
end

function __ocirt_no_command
    test -z (__ocirt_place)[1]
end

# Whether the cursor is behind this command, and at this argument of it.
function __ocirt_at
    set -l found (__ocirt_place)
    test "$found[1]" = $argv[1]; and test (count $argv) = 1 -o "$found[2]" = "$argv[2]"
end

# Of the state root that the line names.
function __ocirt_containers
    set -l words (commandline -opc)
    set -l root
    for i in (seq (count $words))
        switch $words[$i]
            case '--root=*'
                set root $words[$i]
            case --root
                set root --root $words[(math $i + 1)]
        end
    end
    $words[1] $root list -q 2>/dev/null
end

complete -c ocirt -f
@rules@
"""
