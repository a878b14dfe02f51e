#define _POSIX_C_SOURCE 200809L
#include "measure.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv)
{
	uint32_t n = atoi(argv[1]);
	double loss = atof(argv[2]);
	int secs = atoi(argv[3]);
	uint64_t seed = atoi(argv[4]);
	int deaths = atoi(argv[5]);
	Network net = network_usual;
	if (argc > 6) dc_canaries = strtoul(argv[6], NULL, 0);
	if (argc > 7) net.stall_every = (uint64_t)(atof(argv[7]) * 1e6);
	net.loss = loss;
	double c0 = cpu_seconds();
	World *w = world_new(seed, n, &net, true);
	bool ok = world_settle(w, 300 * SECOND);
	printf("node %zu bytes; settled %d after %.1f s virtual, cpu %.1f\n", sizeof(DcGossipNode), ok, (w->now_us - 800000000.0*1e6)/1e6, cpu_seconds() - c0);
	world_run(w, 15 * SECOND);
	Quiet q = measure_quiet(w, secs * SECOND);
	printf("quiet: phi max %.2f %.1f node hours, false suspects %lu deaths %lu stalls %lu overflows %lu; %.0f B/s %.1f dg/s cpu %.1f us/round; life %.1f max %.1f record %.1f rounds; hot %u missed %.3f\n",
	  q.counts.phi_max, q.node_hours, q.counts.false_suspects, q.counts.false_deaths, q.counts.stalls, q.counts.overflows, q.bytes_per_second, q.datagrams_per_second, q.cpu_us, q.life_rounds, q.life_rounds_max, q.record_rounds, w->hosts[1].gossip->hot_count, w->hosts[1].gossip->missed);
	{
		double miss = 0; unsigned urgent = 0, doubt = 0, news = 0, called = 0, hot = 0, dd=0;
		static unsigned per[1100];
		for (uint32_t i = 0; i < n; i++) { DcGossip *g = w->hosts[i].gossip; miss += g->missed; hot += g->hot_count;
			for (uint32_t j = 0; j < g->hot_count; j++) { DcGossipNode *x = &g->nodes[g->hot[j]];
			 if (x->doubt_us) { doubt++; per[x->node_id]++; } if (x->urgent_us > g->now_us) urgent++; if (x->called_us) called++; if (g->now_us - x->news_us < 10*SECOND) news++; } }
		for (int i = 0; i < 1100; i++) dd += per[i] > 0;
		printf("missed %.3f hot %.1f doubt %.1f (of %u nodes) urgent %.1f called %.1f news %.1f phi mean %.0f\n", miss / n, (double)hot / n, (double)doubt / n, dd, (double)urgent / n, (double)called / n, (double)news / n, (w->hosts[1].gossip->phi.sum_us)/(w->hosts[1].gossip->phi.count+.001));
	}
	for (int i = 0; i < deaths && w->up_count > 1; i++)
	{
		uint32_t x = n - 1 - i;
		Death d = measure_death(w, x, 60 * SECOND);
		printf("death: suspect %.2f first %.2f all %.2f\n", d.suspect_s, d.first_s, d.all_s);
		{ unsigned histo[80] = {0}; for (uint32_t h = 0; h < n; h++) if (w->watches[0].dead_at_us[h]) histo[(w->watches[0].dead_at_us[h] - w->watches[0].since_us) / (250*MS) % 80]++;
		 for (int h = 0; h < 80; h++) if (histo[h]) printf(" %.2f:%u", h * .25, histo[h]); printf("\n");
		 for (uint32_t h = 0; h < n; h++) if (w->hosts[h].up && !w->watches[0].dead_at_us[h]) { const DcGossipNode *nn = dc_gossip_find(w->hosts[h].gossip, x + 1); if (nn) printf("host %u: state %d heard %.2f doubt %.2f met %.2f seen %lu\n", h, nn->state, (w->hosts[h].gossip->now_us - nn->heard_us) / 1e6, nn->doubt_us ? (w->hosts[h].gossip->now_us - nn->doubt_us) / 1e6 : 0, (w->hosts[h].gossip->now_us - nn->met_us) / 1e6, nn->seen_version); } }
		world_run(w, 3 * SECOND);
		world_watch(w, 0, x);
		Watch *k = &w->watches[0];
		world_start(w, x);
		k->config_version = w->hosts[x].gossip->nodes[0].config_version;
		uint32_t r = measure_news(w, 1, 100);
		uint64_t t0 = k->since_us;
		while (k->alive_count < w->up_count - 1 && w->now_us - t0 < 60 * SECOND) world_run(w, 10 * MS);
		printf("restart: known %u rounds (budget %u), alive to all %.2f s\n", r, news_budget(n), (double)(w->now_us - t0)/1e6);
		world_run(w, 15 * SECOND);
	}
	if (deaths)
	{
		memset(w->watches, 0, sizeof(w->watches));
		world_watch(w, 0, n);
		world_start(w, n);
		w->watches[0].config_version = 0;
		printf("join: %u rounds\n", measure_news(w, 1, 200));
		uint64_t t = w->now_us; 
		world_settle(w, 100 * SECOND);
		printf("all alive after %.1f s more\n", (w->now_us - t) / 1e6);
		world_run(w, 20*SECOND);
		for (int i = 0; i < 10; i++) { world_watch(w, i, n + 1 + i); world_start(w, n + 1 + i); w->watches[i].config_version = 0; }
		printf("10 joins: %u rounds\n", measure_news(w, 10, 200));
		world_run(w, 20*SECOND);
		world_watch(w, 0, 1);
		world_move(w, 1);
		w->watches[0].config_version = w->hosts[1].gossip->nodes[0].config_version;
		printf("moved: %u rounds\n", measure_news(w, 1, 200));
	}
	printf("cpu %.1f\n", cpu_seconds() - c0);
	return 0;
}
