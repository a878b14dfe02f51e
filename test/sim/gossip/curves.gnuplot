# Draws gossip-curves.csv of the current directory; `format` is svg or png.
if (format eq "svg") {
	set terminal svg size 1000,760 font "sans,13" background rgb "white"
	set output "gossip-curves.svg"
} else {
	set terminal pngcairo size 1000,760 font "sans,11"
	set output "gossip-curves.png"
}
set datafile separator ","
set key autotitle columnhead
file = "gossip-curves.csv"
at(loss, column_) = (column(2) == loss ? column(column_) : NaN)

set multiplot layout 2,2
set logscale x
set xlabel "nodes"
set xrange [2.5:1200]
set xtics (3, 10, 30, 100, 300, 1000)
set grid lc rgb "#dddddd"
set key top left samplen 2 spacing 1.1

set title "A death: until the last node knows (s)"
set key bottom right
set yrange [0:8]
plot 5 with lines dt 2 lc rgb "#888888" title "goal", \
	file using 1:(at(0, 14)) with linespoints pt 7 lc rgb "#1b7837" title "no loss", \
	file using 1:(at(0.05, 14)) with linespoints pt 7 lc rgb "#2166ac" title "5 % loss", \
	file using 1:(at(0.05, 13)) with linespoints pt 6 dt 3 lc rgb "#2166ac" title "5 % loss, the first node", \
	file using 1:(at(0.20, 14)) with linespoints pt 7 lc rgb "#b2182b" title "20 % loss"

set title "News: rounds until all know, 5 % loss"
set key top left
set yrange [0:32]
plot file using 1:(at(0.05, 20)) with lines dt 2 lc rgb "#888888" title "2 log2(n) + 4", \
	file using 1:(at(0.05, 17)) with linespoints pt 7 lc rgb "#2166ac" title "one joins", \
	file using 1:(at(0.05, 18)) with linespoints pt 5 lc rgb "#762a83" title "ten join", \
	file using 1:(at(0.05, 16)) with linespoints pt 9 lc rgb "#1b7837" title "a restart", \
	file using 1:(at(0.05, 19)) with linespoints pt 11 lc rgb "#b35806" title "another address"

set title "A node sends, in a second (kB; datagrams x 1)"
set yrange [0:20]
plot file using 1:(at(0, 7) / 1000) with linespoints pt 7 lc rgb "#1b7837" title "kB, no loss", \
	file using 1:(at(0.05, 7) / 1000) with linespoints pt 7 lc rgb "#2166ac" title "kB, 5 % loss", \
	file using 1:(at(0.20, 7) / 1000) with linespoints pt 7 lc rgb "#b2182b" title "kB, 20 % loss", \
	file using 1:(at(0.05, 8)) with linespoints pt 6 dt 3 lc rgb "#2166ac" title "datagrams, 5 % loss"

set title "Greatest phi of a node that lives (each stalls 1-2 s an hour)"
set key bottom right
set yrange [0:12]
plot 8 with lines dt 2 lc rgb "#888888" title "dead", \
	6 with lines dt 4 lc rgb "#bbbbbb" title "suspect", \
	file using 1:(at(0, 6)) with linespoints pt 7 lc rgb "#1b7837" title "no loss", \
	file using 1:(at(0.05, 6)) with linespoints pt 7 lc rgb "#2166ac" title "5 % loss", \
	file using 1:(at(0.20, 6)) with linespoints pt 7 lc rgb "#b2182b" title "20 % loss"
unset multiplot
