# lib.sh: what the measurements share.  Bash; to be sourced after
# test/lib/common.sh and test/demo/cluster.sh.
#
# A figure is a line "what,variant,round,value,unit" of $RESULTS.  Variants are
# measured in turns, in one run, because this kind of machine is noisy: trust
# ratios of medians, not single times.

# begin_bench NAME [--quick]: set up, a work directory, an empty file of
# results, and cleaning up at the end.  Results of quick runs are not kept.
begin_bench() {
	"$TOP/test/setup" || exit 1
	make_work "$1"
	NODES=
	trap end_bench EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	RESULTS=$TOP/bench/results/$1.csv
	[ -z "${2:-}" ] || RESULTS=$TOP/build/bench/$1.csv
	mkdir -p "$(dirname "$RESULTS")"
	echo "what,variant,round,value,unit" >"$RESULTS"
}

end_bench() {
	trap - EXIT INT TERM
	[ -z "$NODES" ] || cluster_stop
	reap_servers
	cd /
	rm -rf "$WORK"
}

# forget_cluster: stop the nodes and remove all of them, so that another cluster
# can be made
forget_cluster() {
	[ -z "$NODES" ] || cluster_stop
	NODES=
	rm -rf "$WORK"/node* "$WORK/socket" "$WORK/cluster.key" "$WORK/passfile"
}

fail() { say "FAILED: $*" >&2; cluster_logs; exit 1; }

record() { (IFS=,; printf '%s\n' "$*") >>"$RESULTS"; } # what variant round value unit

# middle: the median of the numbers in its input; nothing where there are none
middle() { sort -g | awk '{ a[NR] = $1 } END { if (NR) print (a[int((NR + 1) / 2)] + a[int((NR + 2) / 2)]) / 2 }'; }

# median WHAT VARIANT
median() { awk -F, -v w="$1" -v v="$2" '$1 == w && $2 == v { print $4 }' "$RESULTS" | middle; }

# spread WHAT VARIANT: "least..most"
spread() {
	awk -F, -v w="$1" -v v="$2" '$1 == w && $2 == v { print $4 }' "$RESULTS" | sort -g |
		awk 'NR == 1 { least = $1 } { most = $1 } END { if (NR) print least ".." most }'
}

# points WHAT VARIANT: "round value", for exponent
points() { awk -F, -v w="$1" -v v="$2" '$1 == w && $2 == v { print $3, $4 }' "$RESULTS"; }

ratio() { awk -v a="${1:-0}" -v b="${2:-0}" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "?" }'; }

# paired WHAT VARIANT BASE: the median of what VARIANT is to BASE round by round,
# since what is measured within the same minute had the same machine
paired() {
	local ratios
	ratios=$(awk -F, -v w="$1" -v v="$2" -v b="$3" '$1 != w { next } $2 == v { a[$3] = $4 } $2 == b { base[$3] = $4 }
		END { for (r in a) if (base[r] > 0) print a[r] / base[r] }' "$RESULTS")
	ratio "$(middle <<<"$ratios")" "${ratios:+1}"
}

# processor_time PIDFILE...: seconds that these servers have used since they
# started, with all children, those that ended too.
processor_time() {
	local file pid
	for file; do
		read -r pid <"$file" || continue
		sed 's/.*) //' "/proc/$pid/stat" | awk '{ print $12 + $13 + $14 + $15 }'
		for pid in $(cat "/proc/$pid/task/$pid/children"); do
			sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | awk '{ print $12 + $13 }'
		done
	done | awk -v hz="$(getconf CLK_TCK)" '{ s += $1 } END { printf "%.2f", s / hz }'
}

# exponent: of lines "x y", the b of y ~ x^b (least squares of the logarithms)
exponent() {
	awk '$1 > 0 && $2 > 0 { x = log($1); y = log($2); n++; sx += x; sy += y; sxx += x * x; sxy += x * y }
		END { d = n * sxx - sx * sx; if (d > 0) printf "%.2f", (n * sxy - sx * sy) / d; else printf "?" }'
}
