# DatacakeCluster: several PostgreSQL servers that form one Datacake cluster,
# for TAP tests.  Built on PostgreSQL::Test::Cluster, which assigns ports, keeps
# the logs and stops the servers when the test ends.
#
#   my $c = DatacakeCluster->new(nodes => 3, conf => { work_mem => '8MB' });
#   $c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
#   $c->replicate('t');
#   $c->sql(2, q{INSERT INTO t VALUES (1, 'x')});
#   $c->verify_ok('a row written on node 2 is everywhere');
#
# Nodes are numbered from 1, which is also their datacake.node_id.  Functions
# that end in _ok, and those that take a name last, are one test each.  Nothing
# here waits for a fixed time: every wait is for a condition, up to a timeout.
#
# Peers talk over TCP on 127.0.0.1 with trust authentication; test/demo shows
# the real one.
package DatacakeCluster;

use strict;
use warnings;

use Carp qw(croak);
use DatacakeNet;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket;
use Test::More;
use Time::HiRes qw(time usleep);

our $timeout = $PostgreSQL::Test::Utils::timeout_default;

# Why a test died is shown as well: by itself that goes to its log only.
$SIG{__DIE__} = sub { diag @_ if defined $^S && !$^S; };

# Processes that freeze() stopped.  A test may die before thaw(), and a stopped
# server does not obey a shutdown: this END runs before that of Cluster.pm.
my %frozen;
END { kill 'CONT', values %frozen if %frozen; }

# ---- making and starting ----------------------------------------------------

# new(nodes => N, ...): N running nodes that know each other.
#   database    the database that takes part                  (postgres)
#   conf        settings of all nodes, { name => value }
#   node_conf   settings of single nodes, { 2 => { ... } }
#   cluster_id  name of the cluster                           (test)
#   net         1: what nodes send each other goes through a DatacakeNet
#   wait        0: return before the nodes have met
#   start       0: only initialise
sub new
{
	my ($class, %args) = @_;
	my $self = bless {
		nodes      => {},
		udp_ports  => {},
		database   => $args{database} // 'postgres',
		cluster_id => $args{cluster_id} // 'test',
		conf       => $args{conf} // {},
		node_conf  => $args{node_conf} // {},
		dir        => PostgreSQL::Test::Utils::tempdir('datacake'),
	}, $class;
	$self->{key_file} = "$self->{dir}/cluster.key";
	$self->write_key_file($self->{key_file});
	$self->{net} = DatacakeNet->new("$self->{dir}/net.log") if $args{net};

	my @numbers = 1 .. ($args{nodes} // 3);
	$self->init_node($_) foreach @numbers;
	return $self if defined $args{start} && !$args{start};

	$self->start_node($_) foreach @numbers;
	$self->create_extension($_) foreach @numbers;
	$self->wait_for_nodes unless defined $args{wait} && !$args{wait};
	return $self;
}

# init_node($i, name => value...): a new data directory with our settings;
# "encoding" is the encoding of its databases, and no setting.
sub init_node
{
	my ($self, $i, %conf) = @_;
	my ($node, $port) = $self->_reserve("node$i");
	my $encoding = delete $conf{encoding} // 'UTF8';
	$node->init(extra => [ '--no-locale', "--encoding=$encoding" ]);
	$self->{nodes}{$i}     = $node;
	$self->{udp_ports}{$i} = $port;
	if ($self->{net})
	{
		$self->{relay_ports}{$i} = _free_port();
		$self->net->add_node($i, $self->{relay_ports}{$i}, $port, $port);
	}

	my %settings = (
		'listen_addresses'            => '127.0.0.1',
		'restart_after_crash'         => 'on',
		'log_statement'               => 'ddl',
		'max_connections'             => 40,
		'max_wal_size'                => '1GB',
		'shared_preload_libraries'    => 'datacake',
		'datacake.node_id'            => $i,
		'datacake.node_name'          => "node$i",
		'datacake.cluster_id'         => $self->{cluster_id},
		'datacake.database'           => $self->{database},
		'datacake.listen_address'     => '127.0.0.1',
		'datacake.port'               => $port,
		'datacake.cluster_key_file'   => $self->{key_file},
		'datacake.conninfo'           => $self->conninfo($i),
		'datacake.advertise_address'  => $self->{net} ? $self->gossip_address($i) : undef,
		'datacake.seeds'              => $self->gossip_address($self->_first),
		%{ $self->{conf} },
		%{ $self->{node_conf}{$i} // {} },
		%conf);
	$self->configure($i, %settings);
	return $node;
}

# add_node($i, name => value...): a node that comes later; started, with the
# extension, and not waited for.
sub add_node
{
	my ($self, $i, %conf) = @_;
	$self->init_node($i, %conf);
	$self->start_node($i);
	$self->create_extension($i);
	return $self->node($i);
}

# configure($i, name => value...): append settings; undef leaves one out.
# They are read at the next start or reload.
sub configure
{
	my ($self, $i, %settings) = @_;
	my @lines;
	foreach my $name (sort keys %settings)
	{
		my $value = $settings{$name};
		next unless defined $value;
		$value =~ s/'/''/g;
		push @lines, "$name = '$value'";
	}
	$self->node($i)->append_conf('postgresql.conf', join("\n", @lines));
	return;
}

# start_node($i): start, and try again while what a killed postmaster left is
# still in the way.
sub start_node
{
	my ($self, $i) = @_;
	my $node  = $self->node($i);
	my $until = time + $timeout;
	until ($node->start(fail_ok => 1))
	{
		croak "node $i does not start" if time > $until;
		$node->{_pid} = undef;
		usleep(200_000);
	}
	return;
}

sub create_extension
{
	my ($self, $i) = @_;
	if ($self->{database} ne 'postgres')
	{
		$self->node($i)->safe_psql('postgres', "CREATE DATABASE $self->{database}");
	}
	$self->sql($i, 'CREATE EXTENSION datacake');
	$self->sql($i, 'CREATE ROLE datacake_repl LOGIN IN ROLE datacake_peer');
	return;
}

# wait_for_nodes($n): every running node exchanges changes with $n - 1 others,
# by default with all that run; an error ends the test.
sub wait_for_nodes
{
	my ($self, $n) = @_;
	my @running = $self->running;
	$n //= scalar @running;
	$self->sql($_, "SELECT datacake.wait_for_nodes($n, '$timeout s')") foreach @running;
	return;
}

# write_key_file($path, $text): a key ring file, mode 0600; a new key if no
# text is given.
sub write_key_file
{
	my ($self, $path, $text) = @_;
	$text //= '1 ' . join('', map { sprintf '%02x', int rand 256 } 1 .. 32) . "\n";
	open my $file, '>', $path or croak "$path: $!";
	print $file $text;
	close $file;
	chmod 0600, $path;
	return $path;
}

# ---- asking -----------------------------------------------------------------

sub net      { my ($self) = @_; return $self->{net} // croak 'the cluster was made without a DatacakeNet'; }
sub node     { my ($self, $i) = @_; return $self->{nodes}{$i} // croak "no node $i"; }
sub numbers  { my ($self) = @_; return sort { $a <=> $b } keys %{ $self->{nodes} }; }
sub udp_port { my ($self, $i) = @_; return $self->{udp_ports}{$i}; }

# Numbers of the nodes whose postmaster runs.
sub running
{
	my ($self) = @_;
	return grep { defined $self->{nodes}{$_}{_pid} } $self->numbers;
}

sub conninfo
{
	my ($self, $i) = @_;
	return join ' ', 'host=127.0.0.1', 'port=' . ($self->{relay_ports}{$i} // $self->node($i)->port),
	  "dbname=$self->{database}", 'user=datacake_repl', $self->{net} ? 'sslmode=disable' : ();
}

# sql($i, $query): its result; an error ends the test.
sub sql
{
	my ($self, $i, $query) = @_;
	return $self->node($i)->safe_psql($self->{database}, $query);
}

# try_sql($i, $query): (exit status, output, errors); 0, 3 and so on as psql has it.
sub try_sql
{
	my ($self, $i, $query) = @_;
	my ($out, $err) = ('', '');
	my $rc = $self->node($i)->psql($self->{database}, $query,
		stdout => \$out, stderr => \$err, on_error_stop => 1, timeout => $timeout);
	return ($rc, $out, $err);
}

# sql_all($query): run it on every running node, one after the other.
sub sql_all
{
	my ($self, $query) = @_;
	return map { $self->sql($_, $query) } $self->running;
}

# session($i): an open psql, to be used across statements (->query, ->quit).
# Its time runs from its last query to its end, whatever the test does between.
sub session
{
	my ($self, $i, %params) = @_;
	my $session = $self->node($i)->background_psql($self->{database}, timeout => 5 * $timeout, %params);
	$session->set_query_timer_restart;
	return $session;
}

# begin($i, $query): an open psql in which the query has been sent but need not
# come back; finish it with ->query_safe('SELECT 1') or ->quit.
sub begin
{
	my ($self, $i, $query) = @_;
	my $session = $self->session($i);
	$session->query_until(qr/^sent$/m, "\\echo sent\n$query;\n");
	return $session;
}

# wait_blocked($i, $n): until $n statements (1) wait for a lock on node $i.
sub wait_blocked
{
	my ($self, $i, $n) = @_;
	$n //= 1;
	$self->_poll(
		sub {
			return $self->sql($i, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'}) >= $n;
		}) or croak "nothing is blocked on node $i";
	return;
}

# start_writer($i, @statements): a psql that runs them one after the other, each
# a transaction of its own, until the first error.  What it printed, line by
# line, was acknowledged: ->{acknowledged}->().
sub start_writer
{
	my ($self, $i, @statements) = @_;
	my $base = "$self->{dir}/writer" . ++$self->{writers};
	open my $script, '>', "$base.sql" or croak "$base.sql: $!";
	print $script map { "$_;\n" } @statements;
	close $script;
	my $handle = IPC::Run::start(
		[
			'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d',
			$self->node($i)->connstr($self->{database}), '-f', "$base.sql"
		],
		'>', "$base.out", '2>', "$base.err");
	return {
		handle       => $handle,
		acknowledged => sub { return split /\n/, -e "$base.out" ? slurp_file("$base.out") : ''; },
		errors       => sub { return slurp_file("$base.err"); },
	};
}

# finish_writer($writer): wait for its end; true if no statement failed.
sub finish_writer
{
	my ($self, $writer) = @_;
	IPC::Run::finish($writer->{handle});
	return IPC::Run::result($writer->{handle}) == 0;
}

# wait_writer($writer, $n): until $n of its lines are acknowledged.
sub wait_writer
{
	my ($self, $writer, $n) = @_;
	$self->_poll(sub { return $writer->{acknowledged}->() >= $n; })
	  or croak "the writer does not get to $n statements: " . $writer->{errors}->();
	return;
}

# replicate($table, $i): make it a keyspace from node $i (1) and wait until
# every running node has it.
sub replicate
{
	my ($self, $table, $i) = @_;
	$i //= $self->_first;
	$self->sql($i, "SELECT datacake.replicate_table('$table')");
	foreach my $other ($self->running)
	{
		$self->_poll(sub { $self->_has_keyspace($other, $table) })
		  or croak "keyspace $table does not reach node $other";
	}
	return;
}

sub pause  { my ($self, $i, $peer) = @_; return $self->sql($i, 'SELECT datacake.pause(' . ($peer // '') . ')'); }
sub resume { my ($self, $i, $peer) = @_; return $self->sql($i, 'SELECT datacake.resume(' . ($peer // '') . ')'); }

# ---- waiting and comparing: one test each -----------------------------------

# await($i, $query, $expected, $name): the query gives that result in the end.
sub await
{
	my ($self, $i, $query, $expected, $name, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	my $got;
	my $met = $self->_poll(
		sub {
			my ($rc, $out) = $self->try_sql($i, $query);
			$got = $rc == 0 ? $out : undef;
			return defined $got && $got eq $expected;
		},
		$seconds);
	return $met ? pass($name) : is($got, $expected, $name);
}

# await_all($query, $expected, $name): the query gives that result on every
# running node in the end.
sub await_all
{
	my ($self, $query, $expected, $name, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	my %got;
	my $met = $self->_poll(
		sub {
			%got = $self->_everywhere($query);
			return !grep { !defined || $_ ne $expected } values %got;
		},
		$seconds);
	ok($met, $name);
	$met or diag "expected: $expected\n", map { "node $_: " . ($got{$_} // '(error)') . "\n" } sort keys %got;
	return $met;
}

# await_equal($query, $name): all running nodes give the same result in the end.
sub await_equal
{
	my ($self, $query, $name, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	my %got;
	my $met = $self->_poll(sub { %got = $self->_everywhere($query); return _all_equal(%got); }, $seconds);
	ok($met, $name);
	$met or diag map { "node $_: " . ($got{$_} // '(error)') . "\n" } sort keys %got;
	return $met;
}

# await_differ($query, $name): not all running nodes give the same result: the
# negative control of the tests above.
sub await_differ
{
	my ($self, $query, $name, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	my $met = $self->_poll(sub { my %got = $self->_everywhere($query); return !_all_equal(%got); }, $seconds);
	ok($met, $name);
	return $met;
}

# same_rows_ok($table, $name): the running nodes hold the same rows, stamps
# included, now.  Asks the tables themselves, not the extension.
sub same_rows_ok
{
	my ($self, $table, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	my %got = $self->_everywhere(_digest($table));
	ok(_all_equal(%got), $name);
	_all_equal(%got) or diag map { "node $_: " . ($got{$_} // '(error)') . "\n" } sort keys %got;
	return;
}

# verify_ok($name, $seconds): every running node says that all live nodes hold
# the same rows, and the tables agree with that.
sub verify_ok
{
	my ($self, $name, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	$seconds //= $timeout;
	my @problems;
	foreach my $i ($self->running)
	{
		my ($rc, $out, $err) = $self->try_sql($i, "SELECT datacake.verify('$seconds s')");
		push @problems, "node $i: verify() gives \"$out\" $err" unless $rc == 0 && $out eq 't';
		last if @problems;
	}
	my ($first) = $self->running;
	my @tables = split /\n/, $self->sql($first, 'SELECT relation FROM datacake.keyspaces ORDER BY 1');
	if (@tables)
	{
		# one statement for all of them: a psql for each takes longer than what it asks
		my %got = $self->_everywhere(join ' UNION ALL ', map { "SELECT \$\$$_: \$\$ || (" . _digest($_) . ')' } @tables);
		push @problems, map { "node $_: " . ($got{$_} // '(error)') } sort keys %got unless _all_equal(%got);
	}
	ok(!@problems, $name);
	if (@problems)
	{
		diag join "\n", @problems;
		$self->describe;
	}
	return !@problems;
}

# differ_ok($name): verify() says that the nodes do not hold the same rows: the
# negative control of verify_ok.
sub differ_ok
{
	my ($self, $name, $i) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	is($self->sql($i // $self->_first, q{SELECT datacake.verify('300 ms')}), 'f', $name);
	return;
}

# log_ok($i, qr/.../, $name): the server's log of node $i has it in the end.
sub log_ok
{
	my ($self, $i, $pattern, $name, $offset, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	my $file = $self->node($i)->logfile;
	my $met = $self->_poll(sub { return slurp_file($file, $offset // 0) =~ $pattern; }, $seconds);
	ok($met, $name);
	return;
}

# log_offset($i): where the log of node $i ends now, for log_ok.
sub log_offset { my ($self, $i) = @_; return -s $self->node($i)->logfile; }

# error_ok($i, $query, qr/.../, $name): the query fails with such a message.
sub error_ok
{
	my ($self, $i, $query, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	my ($rc, $out, $err) = $self->try_sql($i, $query);
	$rc == 0 ? fail($name) : like($err, $pattern, $name);
	return;
}

# describe: what the views of every running node say, as diagnostics.
sub describe
{
	my ($self) = @_;
	foreach my $i ($self->running)
	{
		foreach my $view (qw(nodes peers keyspaces workers))
		{
			my ($rc, $out, $err) = $self->try_sql($i, "SELECT * FROM datacake.$view");
			diag "node $i, $view:\n" . ($rc == 0 ? $out : $err);
		}
	}
	return;
}

# ---- faults -----------------------------------------------------------------

# Process ids of a node: the postmaster first, then its children.
sub processes
{
	my ($self, $i) = @_;
	my $pid = $self->node($i)->{_pid} // croak "node $i does not run";
	open my $file, '<', "/proc/$pid/task/$pid/children" or croak "postmaster $pid: $!";
	return ($pid, split ' ', <$file> // '');
}

# kill9($i): SIGKILL for the postmaster and all its children; returns when none
# of them is left and the node can be started again.
sub kill9
{
	my ($self, $i) = @_;
	my @pids = $self->processes($i);
	kill 'KILL', @pids;
	$self->node($i)->{_pid} = undef;
	$self->_poll(sub { return !grep { _alive($_) } @pids; }) or croak "node $i survives SIGKILL";

	# A new postmaster refuses to start while a process of the old number
	# exists, and a zombie does.  Where init does not reap it, the file goes.
	$self->_poll(sub { return !-e "/proc/$pids[0]"; }, 0.3)
	  or unlink $self->node($i)->data_dir . '/postmaster.pid';
	return;
}

# freeze($i), thaw($i): SIGSTOP and SIGCONT for the whole node; or without one
# process, such as worker_pid($i, 'gossip'): a node that answers nothing and is
# not taken for dead.  freeze($i) then freezes that one as well.
sub freeze
{
	my ($self, $i, $but) = @_;
	foreach my $pid (grep { $_ != ($but // 0) } $self->processes($i))
	{
		kill 'STOP', $pid;
		$frozen{"$i $pid"} = $pid;
	}
	return;
}

sub thaw
{
	my ($self, $i) = @_;
	kill 'CONT', delete $frozen{$_} foreach grep { /^$i / } keys %frozen;
	return;
}

# freeze_link($from, $to): what node $from sends to node $to is taken out of the
# network and not carried out until thaw_link(): a slow link that loses nothing.
# It is stopped while it waits for its socket, so that it holds no lock.
sub freeze_link
{
	my ($self, $from, $to) = @_;
	my $look = "SELECT pid FROM pg_stat_activity WHERE application_name = 'datacake node $from' AND wait_event = 'ClientRead'";
	my $pid;
	$self->_poll(
		sub {
			$pid = $self->sql($to, $look);
			return 0 unless $pid =~ /^[0-9]+$/;
			kill 'STOP', $pid;
			return 1 if $self->sql($to, $look) eq $pid;
			kill 'CONT', $pid;
			return 0;
		}) or croak "node $from is not connected to node $to";
	$frozen{"$from $to"} = $pid;
	return;
}

sub thaw_link
{
	my ($self, $from, $to) = @_;
	kill 'CONT', delete $frozen{"$from $to"};
	return;
}

# freeze_worker($i, $name), thaw_worker($i, $name): one process of the node.
sub freeze_worker
{
	my ($self, $i, $name) = @_;
	my $pid = $self->worker_pid($i, $name);
	kill 'STOP', $pid;
	$frozen{"$i $name"} = $pid;
	return;
}

sub thaw_worker
{
	my ($self, $i, $name) = @_;
	kill 'CONT', delete $frozen{"$i $name"};
	return;
}

# stop($i, $mode), restart($i, $mode): in fast mode by default; restart starts
# a node that was killed as well.
sub stop { my ($self, $i, $mode) = @_; $self->node($i)->stop($mode // 'fast'); return; }

sub restart
{
	my ($self, $i, $mode) = @_;
	$self->stop($i, $mode) if defined $self->node($i)->{_pid};
	$self->start_node($i);
	return;
}

# use_release($i, $versions): from its next start node $i runs a build that
# speaks other wire versions, as "1-2"; without them the one that is tested.
sub use_release
{
	my ($self, $i, $versions) = @_;
	$self->node($i)->{_install_path} = defined $versions ? sprintf $ENV{DATACAKE_RELEASE}, $versions : undef;
	return;
}

sub stop_all
{
	my ($self, $mode) = @_;
	$self->stop($_, $mode) foreach $self->running;
	return;
}

# worker_pid($i, $name): its process id, once it runs.
sub worker_pid
{
	my ($self, $i, $name) = @_;
	my $pid;
	$self->_poll(
		sub {
			my ($rc, $out) = $self->try_sql($i, "SELECT pid FROM datacake.workers WHERE name = '$name' AND pid > 0");
			$pid = $out if $rc == 0;
			return defined $pid && $pid =~ /^[0-9]+$/;
		}) or croak "node $i runs no worker \"$name\"";
	return $pid;
}

# kill_worker($i, $name, $signal): by SIGKILL by default, after which the whole
# node restarts.  Returns when another process does its work.
sub kill_worker
{
	my ($self, $i, $name, $signal) = @_;
	my $pid = $self->worker_pid($i, $name);
	kill $signal // 'KILL', $pid;
	$self->_poll(
		sub {
			my ($rc, $out) = $self->try_sql($i,
				"SELECT count(*) FROM datacake.workers WHERE name = '$name' AND pid > 0 AND pid <> $pid");
			return $rc == 0 && $out eq '1';
		}) or croak "worker \"$name\" of node $i does not come back";
	return $pid;
}

# ---- copies of nodes --------------------------------------------------------

# copy_data($i): the data directory of a node that does not run, kept aside.
sub copy_data
{
	my ($self, $i) = @_;
	my $to = "$self->{dir}/copy" . ++$self->{copies};
	PostgreSQL::Test::Utils::system_or_bail('cp', '-a', $self->node($i)->data_dir, $to);
	return $to;
}

# base_backup($i): by pg_basebackup, of a node that runs (with wal_level and
# max_wal_senders for it).
sub base_backup
{
	my ($self, $i) = @_;
	my $name = 'copy' . ++$self->{copies};
	$self->node($i)->backup($name);
	return $self->node($i)->backup_dir . "/$name";
}

# restore_data($i, $copy): such a copy in place of the data of a node that does
# not run; the copy is gone then.
sub restore_data
{
	my ($self, $i, $copy) = @_;
	my $data = $self->node($i)->data_dir;
	PostgreSQL::Test::Utils::system_or_bail('rm', '-rf', $data);
	PostgreSQL::Test::Utils::system_or_bail('mv', $copy, $data);
	unlink "$data/postmaster.pid";
	return;
}

# clone_node($new, $i, $copy, name => value...): another server with a copy of
# the data of node $i, and with its datacake.node_id; not started.
sub clone_node
{
	my ($self, $new, $i, $copy, %conf) = @_;
	my ($node, $port) = $self->_reserve("node$new");
	$self->{nodes}{$new}     = $node;
	$self->{udp_ports}{$new} = $port;
	mkdir $node->basedir unless -d $node->basedir;
	$self->restore_data($new, $copy);
	$self->configure($new,
		'port'                    => $node->port,
		'unix_socket_directories' => $node->host,
		'datacake.node_name'      => "node$new",
		'datacake.port'           => $port,
		'datacake.conninfo'       => $self->conninfo($new),
		%conf);
	return $node;
}

# drop_node($i): a node that does not run is forgotten, with its data.
sub drop_node
{
	my ($self, $i) = @_;
	PostgreSQL::Test::Utils::system_or_bail('rm', '-rf', $self->node($i)->data_dir);
	delete $self->{nodes}{$i};
	delete $self->{udp_ports}{$i};
	return;
}

# ---- internal ---------------------------------------------------------------

sub _first { my ($self) = @_; return ($self->numbers)[0]; }

# gossip_address($i): where the others reach its gossip, as a seed.
sub gossip_address
{
	my ($self, $i) = @_;
	return '127.0.0.1:' . ($self->{relay_ports}{$i} // $self->{udp_ports}{$i});
}

# A server object whose port number is free for UDP too.
sub _reserve
{
	my ($self, $name) = @_;
	my $port = _free_port();
	return (PostgreSQL::Test::Cluster->new($name, port => $port), $port);
}

# A port number that is free for TCP and UDP, and reserved against other tests
# that run at the same time.
sub _free_port
{
	for (1 .. 100)
	{
		my $port = PostgreSQL::Test::Cluster::get_free_port();
		socket(my $socket, PF_INET, SOCK_DGRAM, 0) or croak "socket: $!";
		next unless bind($socket, sockaddr_in($port, INADDR_ANY));
		close $socket;
		return $port;
	}
	croak 'no free port';
}

# Call $condition until it is true or the time is over; 0 or 1.
sub _poll
{
	my ($self, $condition, $seconds) = @_;
	my $until = time + ($seconds // $timeout);
	my $pause = 10_000;
	while (1)
	{
		return 1 if $condition->();
		return 0 if time > $until;
		usleep($pause);
		$pause *= 2 if $pause < 200_000;
	}
}

# node number => result, undef for an error
sub _everywhere
{
	my ($self, $query) = @_;
	my %got;
	foreach my $i ($self->running)
	{
		my ($rc, $out) = $self->try_sql($i, $query);
		$got{$i} = $rc == 0 ? $out : undef;
	}
	return %got;
}

sub _all_equal
{
	my (%got) = @_;
	return 0 if grep { !defined } values %got;
	my %different = map { $_ => 1 } values %got;
	return keys %different == 1;
}

# The rows of a table, stamps included, as one line that does not depend on
# their order or on the order of columns.
sub _digest
{
	my ($table) = @_;
	return "SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(h, '' ORDER BY h)), 'none')"
	  . " FROM (SELECT md5(to_jsonb(t)::text) AS h FROM $table AS t) AS rows";
}

sub _has_keyspace
{
	my ($self, $i, $table) = @_;
	my ($rc, $out) = $self->try_sql($i,
		"SELECT count(*) FROM datacake.keyspaces WHERE relation = to_regclass('$table')");
	return $rc == 0 && $out eq '1';
}

# A zombie waits for its parent and does nothing any more.
sub _alive
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return 0;
	my $line = <$file> // return 0;
	return $line !~ /\) [ZX] /;
}

1;
