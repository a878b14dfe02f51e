# cluster.sh: a cluster of local servers below $WORK, set up as an administrator
# would: TCP with SCRAM between the nodes, a cluster key, fsync on.  Used by
# test/demo/run and bench/run.  To be sourced after test/lib/common.sh.
#
#   $WORK/nodeN/        data directory of node N
#   $WORK/nodeN.log     its server log
#   $WORK/socket/       Unix sockets, for local psql without a password
#   $WORK/cluster.key   the key ring, "ID HEX" a line
#   $WORK/passfile      the password the nodes use towards each other
#   $WORK/env           what test/demo/stop must know
#
# $WORK is readable by the owner of the servers only, which is what makes local
# trust authentication acceptable.

DBNAME=postgres

# cluster_init N [SETTING...]: N data directories with their settings; each
# further argument is a line for every postgresql.conf.
cluster_init() {
	local n=$1 i tcp udp pids=""
	shift
	NODES=$(seq "$n")
	mapfile -t tcp < <(free_ports "$n" tcp)
	mapfile -t udp < <(free_ports "$n" udp)
	PORTS=("" "${tcp[@]}")

	as_user mkdir -m 0700 "$WORK/socket"
	write_key_file "$WORK/cluster.key"
	(umask 077 && printf '127.0.0.1:*:*:datacake_repl:%s\n' "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >"$WORK/passfile")
	[ -z "$RUN_AS" ] || chown "$RUN_AS" "$WORK/passfile"

	for i in $NODES; do
		as_user "$BINDIR/initdb" -D "$WORK/node$i" -U postgres -E UTF8 --no-locale \
			-A trust --no-sync >"$WORK/initdb$i.log" 2>&1 &
		pids="$pids $!"
	done
	for i in $pids; do
		wait "$i" || { cat "$WORK"/initdb*.log >&2; return 1; }
	done

	for i in $NODES; do
		cat >>"$WORK/node$i/postgresql.conf" <<-EOF
			port = ${PORTS[i]}
			listen_addresses = '127.0.0.1'
			unix_socket_directories = '$WORK/socket'
			password_encryption = 'scram-sha-256'
			shared_preload_libraries = 'datacake'
			datacake.node_id = $i
			datacake.node_name = 'node$i'
			datacake.cluster_id = 'demo'
			datacake.database = '$DBNAME'
			datacake.listen_address = '127.0.0.1'
			datacake.port = ${udp[i - 1]}
			datacake.seeds = '127.0.0.1:${udp[0]}'
			datacake.cluster_key_file = '$WORK/cluster.key'
			datacake.conninfo = 'host=127.0.0.1 port=${PORTS[i]} dbname=$DBNAME user=datacake_repl passfile=$WORK/passfile'
		EOF
		[ $# = 0 ] || printf '%s\n' "$@" >>"$WORK/node$i/postgresql.conf"
		cat >"$WORK/node$i/pg_hba.conf" <<-EOF
			# TYPE  DATABASE  USER  ADDRESS       METHOD
			local   all       all                 trust
			host    all       all   127.0.0.1/32  scram-sha-256
		EOF
	done
}

# node_start N: start it, trying again for a while (a killed server may still
# be going away).
node_start() {
	local tries=0
	until as_user "$BINDIR/pg_ctl" -D "$WORK/node$1" -l "$WORK/node$1.log" -w -t 60 -s start >"$WORK/start$1.log" 2>&1; do
		if [ $((tries += 1)) -ge 20 ]; then
			cat "$WORK/start$1.log" >&2
			tail -n 20 "$WORK/node$1.log" >&2
			return 1
		fi
		sleep 0.3
	done
}

# on N [PSQL OPTION...]: psql on node N as its superuser.
on() {
	local i=$1
	shift
	"$BINDIR/psql" -XqAt -v ON_ERROR_STOP=1 -h "$WORK/socket" -p "${PORTS[i]}" -U postgres -d "$DBNAME" "$@"
}

# psql_command N: the command a person types.
psql_command() {
	printf '%s/psql -h %s -p %s -U postgres %s' "$BINDIR" "$WORK/socket" "${PORTS[$1]}" "$DBNAME"
}

# cluster_start: start all nodes, create the extension and the role of the
# peers, wait until the nodes have met.
cluster_start() {
	local i pids="" password n
	for i in $NODES; do
		node_start "$i" &
		pids="$pids $!"
	done
	for i in $pids; do wait "$i" || return 1; done

	password=$(sed 's/.*://' "$WORK/passfile")
	for i in $NODES; do
		# by standard input, so that the password is on no command line
		on "$i" >"$WORK/setup.log" 2>&1 <<-EOF || { cat "$WORK/setup.log" >&2; return 1; }
			CREATE EXTENSION datacake;
			CREATE ROLE datacake_repl LOGIN PASSWORD '$password' IN ROLE datacake_peer;
		EOF
	done
	n=$(printf '%s\n' $NODES | wc -l)
	for i in $NODES; do
		on "$i" -c "SELECT datacake.wait_for_nodes($n, '30 s')" >/dev/null ||
			{ say "node $i does not see $n nodes" >&2; return 1; }
	done
}

# cluster_stop: an orderly end, or at least an end.
cluster_stop() {
	local i
	for i in $NODES; do
		as_user "$BINDIR/pg_ctl" -D "$WORK/node$i" -m fast -t 20 -s stop >/dev/null 2>&1 &
	done
	wait
	reap_servers
}

# cluster_logs: what the servers said that matters, when something went wrong.
cluster_logs() {
	local i
	for i in $NODES; do
		[ -r "$WORK/node$i.log" ] || continue
		grep -E 'ERROR|FATAL|PANIC|TRAP|WARNING|terminated by signal' "$WORK/node$i.log" |
			grep -vE 'due to administrator command' | tail -n 12 | sed "s/^/node $i: /"
	done >&2
}
