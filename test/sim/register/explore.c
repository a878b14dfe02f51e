#include "rsim.h"
const char *const explore_names[] = {"x"};
const uint32_t explore_count = 0;
uint64_t explore(uint32_t scenario, uint64_t m, bool *all, const char **f){(void)scenario;(void)m;(void)all;(void)f;return 0;}
