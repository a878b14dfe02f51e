# common.sh: what test/run, test/demo and bench/run share.  Bash; to be sourced.
#
# Servers never run as root and never out of the system's directories.  A
# private copy of the installed PostgreSQL, with our extension in it, is made
# below a work directory ($WORK); PostgreSQL finds its files relative to its
# own executable, so the copy needs no configuration.  When root calls us,
# everything that starts a server is run as $RUN_AS, who owns $WORK and may
# not even be able to read the checkout.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}

# make, called again from below a make: keep the variables of the caller's
# command line, forget its jobs and switches.
case ${MAKEFLAGS:-} in
	*'-- '*) MAKEFLAGS=${MAKEFLAGS##*-- } ;;
	*) unset MAKEFLAGS ;;
esac
unset MAKELEVEL MFLAGS
build_make() { make -s --no-print-directory -j"$(nproc 2>/dev/null || echo 1)" -C "$TOP" "$@"; }

# Settings of the caller's own PostgreSQL must not leak into ours.
unset PGHOST PGHOSTADDR PGPORT PGUSER PGDATABASE PGPASSWORD PGPASSFILE \
	PGSERVICE PGSERVICEFILE PGOPTIONS PGDATA PGSSLMODE PGAPPNAME PGTZ
export LC_ALL=C

if [ "$(id -u)" = 0 ]; then
	RUN_AS=postgres
	id -u postgres >/dev/null 2>&1 || RUN_AS=nobody
else
	RUN_AS=
fi

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# Seconds since the epoch, with a fraction; and the seconds since such a time.
now() { printf '%s\n' "${EPOCHREALTIME/,/.}"; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.3f", b - a }'; }

# as_user COMMAND...: run it as the user who may run servers.  The command
# takes our place (exec), so that its process id is the one the caller sees.
as_user() {
	if [ -n "$RUN_AS" ]; then
		setpriv --reuid="$RUN_AS" --regid="$(id -g "$RUN_AS")" --clear-groups \
			-- env HOME="$WORK" USER="$RUN_AS" LOGNAME="$RUN_AS" "$@"
	else
		env HOME="$WORK" "$@"
	fi
}

# make_work NAME: create $WORK, owned by the user of the servers.  The path
# stays short because socket paths are limited to 107 bytes.
make_work() {
	local parent=${TMPDIR:-/tmp}
	[ ${#parent} -le 40 ] || parent=/tmp
	WORK=$(mktemp -d "$parent/datacake-$1.XXXXXX") || exit 1
	[ -z "$RUN_AS" ] || chown "$RUN_AS:$(id -g "$RUN_AS")" "$WORK"
	cd "$WORK" || exit 1
}

# install_server: build the extension and put it into a private copy of the
# server.  Sets $BINDIR.  The output of the build goes to the given file.
install_server() {
	local log=$1 bindir pkglibdir sharedir
	build_make all >"$log" 2>&1 || { cat "$log" >&2; return 1; }
	bindir=$("$PG_CONFIG" --bindir)
	pkglibdir=$("$PG_CONFIG" --pkglibdir)
	sharedir=$("$PG_CONFIG" --sharedir)
	mkdir -p "$WORK/server$bindir" "$WORK/server$pkglibdir" "$WORK/server$sharedir"
	cp -a "$bindir/." "$WORK/server$bindir"
	# neither the JIT's bitcode nor the build system is needed to run
	(cd "$pkglibdir" && tar -cf - --exclude=./bitcode --exclude=./pgxs .) |
		tar -xf - -C "$WORK/server$pkglibdir"
	cp -a "$sharedir/." "$WORK/server$sharedir"
	build_make install DESTDIR="$WORK/server" >>"$log" 2>&1 ||
		{ cat "$log" >&2; return 1; }
	BINDIR=$WORK/server$bindir
}

# free_ports N tcp|udp: N loopback ports nobody uses now, below the range the
# system hands out by itself, so that a stopped node finds its own port again.
free_ports() {
	perl -MSocket -e '
		my ($n, $proto) = @ARGV;
		my $type = $proto eq "udp" ? SOCK_DGRAM : SOCK_STREAM;
		my %taken;
		while (keys %taken < $n) {
			my $port = 10200 + int rand 22000;
			next if $taken{$port};
			socket(my $s, PF_INET, $type, 0) or die "socket: $!";
			bind($s, sockaddr_in($port, INADDR_ANY)) and $taken{$port} = 1;
		}
		print "$_\n" for sort { $a <=> $b } keys %taken;' "$1" "$2"
}

# write_key_file FILE: a new cluster key, "ID HEX", readable by the servers only.
write_key_file() {
	local old; old=$(umask); umask 077
	printf '1 %s\n' "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')" >"$1"
	umask "$old"
	[ -z "$RUN_AS" ] || chown "$RUN_AS" "$1"
}

# node_processes PIDFILE: the postmaster of that file and its children; nothing
# when it does not run (or when the number belongs to another program by now).
node_processes() {
	local pid exe
	[ -r "$1" ] || return 0
	read -r pid <"$1" || return 0
	case $pid in '' | *[!0-9]*) return 0 ;; esac
	exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 0
	case $exe in "$WORK"/* | */postgres | */postgres\ *) ;; *) return 0 ;; esac
	printf '%s ' "$pid"
	cat "/proc/$pid/task/$pid/children" 2>/dev/null
}

# alive PID...: true while one of them runs (a zombie does not).
alive() {
	local pid state
	for pid; do
		state=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) || continue
		case $state in '' | Z*) ;; *) return 0 ;; esac
	done
	return 1
}

# kill_node DATADIR: SIGKILL for the postmaster and all its children at once.
# Returns when they are gone and the node can be started again: a postmaster
# refuses to while its predecessor is a zombie, so where init does not reap it,
# the pid file goes.
kill_node() {
	local pids tries=0
	pids=$(node_processes "$1/postmaster.pid")
	[ -n "$pids" ] || return 0
	# shellcheck disable=SC2086
	kill -KILL $pids 2>/dev/null
	# shellcheck disable=SC2086
	while alive $pids; do sleep 0.02; done
	while [ -e "/proc/${pids%% *}" ] && [ $((tries += 1)) -lt 100 ]; do sleep 0.05; done
	[ ! -e "/proc/${pids%% *}" ] || rm -f "$1/postmaster.pid"
}

# reap_servers: end every server whose data directory lies below $WORK.  The
# processes go hard; nobody wants this data any more.
reap_servers() {
	local pidfile
	[ -d "${WORK:-}" ] || return 0
	find "$WORK" -name postmaster.pid -print 2>/dev/null | while read -r pidfile; do
		kill_node "$(dirname "$pidfile")"
	done
}
