
has_part() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

refuse_while_alive() {
	if alive "$unit"; then refuse "$unit is $(unit_state "$unit"): nothing is moved below a running node"; fi
	[ -z "$(shims)" ] || refuse "containers still run below these shims: $(shims | tr '\n' ' ')"
}

# What is there moves to the first free name; the first one is the original for ever.
move_away() {
	[ -e "$1" ] || return 0
	free=$2 number=1
	while [ -e "$free" ]; do
		number=$((number + 1))
		[ "$number" -le "$aside_max" ] || die "$2 and $aside_max more are taken"
		free=$2.$number
	done
	mv -T "$1" "$free"
	flush "${1%/*}"
	echo "moved $1 to $free"
}
