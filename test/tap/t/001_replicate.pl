use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3);
$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');
$c->sql($_, "INSERT INTO t VALUES ($_, 'x')") for 1..3;
$c->verify_ok('rows written on each node are everywhere');
$c->describe;
done_testing();
