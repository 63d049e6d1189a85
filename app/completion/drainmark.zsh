#compdef drainmark
# zsh completion of drainmark: put this file into a folder of fpath, as _drainmark, or source it behind compinit.
_drainmark() {
	local -a lines candidates
	local line
	lines=("${(@f)$("${words[1]/#\~/$HOME}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ ${lines[1]} == :files ]]; then
		_files
		return
	fi
	for line in $lines; do
		candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	_describe drainmark candidates
}
if [[ ${funcstack[1]} == _drainmark ]]; then
	_drainmark
else
	compdef _drainmark drainmark
fi
