# fish completion of drainmark: put this file into ~/.config/fish/completions, or source it.
function __drainmark_complete
    set -l words (commandline -opc)
    set -l current "$(commandline -ct)"
    set -l lines ($words[1] complete -- $words[2..-1] $current 2>/dev/null)
    if test "$lines[1]" = :files
        __fish_complete_path $current
        return
    end
    printf '%s\n' $lines
end
complete -c drainmark -f -a '(__drainmark_complete)'
