/*
 * The yardstick of the replay kernel: the same rules, written in C for speed.
 *
 * SLUB of 2.6.25, of 3.2 to 6.17 (per-CPU partial lists) and of 7.3 (percpu sheaves, one node) over a page allocator that counts: the object paths, the
 * partial lists and the test of the watermarks, driven by the events of a compact trace. Written from the rules in the
 * docstrings of src/fastalloc/kernels; no line of it comes from Linux.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALLOC, FREE, BULK_ALLOC, BULK_FREE };
enum { ERA_2_6_25, ERA_CPU_PARTIAL, ERA_SHEAVES, ERA_7_3 };
enum { MAX_FULL = 10, MOST_OBJECTS = 60 };

enum { GFP_WAIT = 0x10, GFP_HIGH = 0x20, GFP_THISNODE = 0x40000 };

/* in the order of SLUB_STATS, then of ERA_STATS */
enum stat {
	ALLOC_FASTPATH, ALLOC_SLOWPATH, FREE_FASTPATH, FREE_SLOWPATH, FREE_FROZEN, FREE_ADD_PARTIAL,
	FREE_REMOVE_PARTIAL, ALLOC_FROM_PARTIAL, ALLOC_SLAB, ALLOC_REFILL, FREE_SLAB, CPUSLAB_FLUSH,
	DEACTIVATE_FULL, DEACTIVATE_EMPTY, DEACTIVATE_TO_HEAD, DEACTIVATE_TO_TAIL, DEACTIVATE_REMOTE_FREES,
	CPU_PARTIAL_ALLOC, CPU_PARTIAL_FREE, CPU_PARTIAL_NODE, CPU_PARTIAL_DRAIN, DEACTIVATE_BYPASS,
	ALLOC_NODE_MISMATCH, STATS
};

enum { ALLOCS, FREES, UNKNOWN_FREES, IMPLIED_FREES, FAILED, COUNTS };

struct event {
	uint32_t time, object, kind;
	uint16_t cpu;
	uint8_t op, flags;
};

struct kind { /* what repeats: a row of the trace's table */
	int32_t cache, node;
	int64_t gfp;
};

struct setup { /* a cache as the caller describes it */
	int32_t objects, order, min_partial, era, cpu_partial, by_objects;
};

struct slab { /* 32 bytes: two to a cache line */
	int32_t next, prev; /* partial list of a node or a CPU, or retired slabs of the cache */
	int32_t base;       /* first entry of link */
	int32_t count;      /* on a CPU's list: slabs, or free objects, from here to its end */
	int16_t cache, inuse, objects, freelist;
	int16_t frozen; /* 1 + CPU */
	int16_t node;
	int32_t depth;
};

struct sheaf { /* in a barn's list through next */
	int32_t size, next;
	uint64_t object[MOST_OBJECTS]; /* handles */
};

struct cpu {
	int32_t freelist, page, partial, main, spare;
	int64_t stat[STATS];
};

struct node {
	int32_t nr_partial, head, tail, nr_slabs;
	int32_t full, empty, nr_full; /* the barn */
};

struct cache {
	struct setup is;
	int32_t retired;
	int64_t pages, most_pages, live;
};

struct zone {
	int64_t total, min, used, ok, fail, frees, below_low;
};

struct twin {
	int32_t caches, cpus, nodes, cpu_shift, slabs, links, sheaves, retired;
	struct sheaf *sheaf;
	int64_t room, link_room, limited;
	struct cache *cache;
	struct cpu *cpu;   /* [cache][cpu] */
	struct node *node; /* [cache][node] */
	struct slab *slab;
	int16_t *link; /* next free object of the same slab */
	uint64_t *handle; /* [object]: 1 + (slab << 16 | index), 0 when it is not out */
	struct zone zone[8];
	int64_t met[COUNTS];
};

#define likely(x) __builtin_expect(!!(x), 1)
#define rare __attribute__((noinline, cold))
#define AHEAD 12

/* ------------------------------------------------------------------------------------------------------ pages */

static int allows(const struct zone *z, int order, int64_t level)
{
	return z->total - z->used - (1 << order) + 1 > level;
}

/*
 * The node that gives, or -1: attempt at pages_low, then at pages_min less a quarter for those who cannot wait. A polite
 * request for one of two nodes has all bits of GFP_THISNODE and makes the first attempt alone.
 */
static int alloc_pages(struct twin *t, int node, int64_t gfp, int order, int polite, int *depth)
{
	int found = node, nodes = t->nodes == 2 && !(gfp & GFP_THISNODE) ? 2 : 1;

	*depth = 0;
	if (t->limited) {
		int64_t level;
		int i;

		found = -1;
		for (i = 0; i < nodes && found < 0; i++) {
			struct zone *z = &t->zone[node ^ i];

			if (allows(z, order, z->min + z->min / 4))
				found = node ^ i;
		}
		if (found < 0) {
			t->zone[node].below_low++;
			*depth = gfp & GFP_WAIT ? 1 : 2;
			if (polite && t->nodes == 2 && gfp & GFP_THISNODE)
				nodes = 0;
			for (i = 0; i < nodes && found < 0; i++) {
				struct zone *z = &t->zone[node ^ i];

				level = z->min;
				if (gfp & GFP_HIGH) {
					level -= level / 2;
					*depth = gfp & GFP_WAIT ? 3 : 4;
				}
				if (!(gfp & GFP_WAIT))
					level -= level / 4;
				if (allows(z, order, level))
					found = node ^ i;
			}
		}
		if (found < 0) {
			t->zone[node].fail++;
			return -1;
		}
	}
	t->zone[found].used += 1 << order;
	t->zone[found].ok++;
	return found;
}

/* ------------------------------------------------------------------------------------------------------ slabs */

static void add_partial(struct twin *t, int c, int s, int tail)
{
	struct slab *slab = t->slab;
	struct node *n = &t->node[c * t->nodes + slab[s].node];

	n->nr_partial++;
	if (tail) {
		slab[s].prev = n->tail;
		slab[s].next = -1;
		if (n->tail >= 0)
			slab[n->tail].next = s;
		else
			n->head = s;
		n->tail = s;
	} else {
		slab[s].next = n->head;
		slab[s].prev = -1;
		if (n->head >= 0)
			slab[n->head].prev = s;
		else
			n->tail = s;
		n->head = s;
	}
}

static void remove_partial(struct twin *t, int c, int s)
{
	struct slab *slab = t->slab;
	struct node *n = &t->node[c * t->nodes + slab[s].node];

	if (slab[s].prev >= 0)
		slab[slab[s].prev].next = slab[s].next;
	else
		n->head = slab[s].next;
	if (slab[s].next >= 0)
		slab[slab[s].next].prev = slab[s].prev;
	else
		n->tail = slab[s].prev;
	n->nr_partial--;
}

static int new_slab(struct twin *t, int c, int cpu, int node, int64_t gfp)
{
	struct cache *cache = &t->cache[c];
	struct slab *p;
	int depth, i, found, later = cache->is.era != ERA_2_6_25, s = cache->retired;
	int16_t *link;

	if (node < 0)
		node = cpu >> t->cpu_shift;
	found = alloc_pages(t, node, gfp, cache->is.order, later, &depth);
	if (found < 0 && later) /* the smallest order as asked, here the same one */
		found = alloc_pages(t, node, gfp, cache->is.order, 0, &depth);
	node = found;
	if (node < 0)
		return -1;
	if (s < 0) {
		s = t->slabs++;
		t->slab[s].base = t->links;
		t->links += cache->is.objects;
	} else {
		cache->retired = t->slab[s].next;
	}
	p = &t->slab[s];
	p->cache = c;
	p->node = node;
	p->inuse = 0;
	p->freelist = 0;
	p->frozen = 0;
	p->objects = cache->is.objects;
	p->depth = depth;
	link = t->link + p->base;
	for (i = 0; i < cache->is.objects - 1; i++)
		link[i] = i + 1;
	link[i] = -1;
	t->node[c * t->nodes + node].nr_slabs++;
	cache->pages += 1 << cache->is.order;
	if (cache->pages > cache->most_pages)
		cache->most_pages = cache->pages;
	return s;
}

static void discard_slab(struct twin *t, int c, int s)
{
	struct cache *cache = &t->cache[c];
	struct zone *z = &t->zone[t->slab[s].node];

	t->node[c * t->nodes + t->slab[s].node].nr_slabs--;
	cache->pages -= 1 << cache->is.order;
	z->used -= 1 << cache->is.order;
	z->frees++;
	t->slab[s].next = cache->retired;
	cache->retired = s;
}

static void retire(struct twin *t, int c, int s, struct cpu *k)
{
	k->stat[DEACTIVATE_EMPTY]++;
	k->stat[FREE_SLAB]++;
	discard_slab(t, c, s);
}

static int crowded(const struct twin *t, int c, int s)
{
	return t->node[c * t->nodes + t->slab[s].node].nr_partial >= t->cache[c].is.min_partial;
}

/* ------------------------------------------------------------------------------------------- per-CPU partials */

static rare void unfreeze_partials(struct twin *t, int c, struct cpu *k, int s)
{
	int next, discard = -1;

	for (; s >= 0; s = next) {
		struct slab *p = &t->slab[s];

		next = p->next;
		p->frozen = 0;
		if (p->inuse == 0 && crowded(t, c, s)) {
			p->next = discard;
			discard = s;
		} else {
			add_partial(t, c, s, 1);
			k->stat[FREE_ADD_PARTIAL]++;
		}
	}
	for (s = discard; s >= 0; s = next) {
		next = t->slab[s].next;
		retire(t, c, s, k);
	}
}

static void put_cpu_partial(struct twin *t, int c, int cpu, struct cpu *k, int s, int drain)
{
	const struct setup *is = &t->cache[c].is;
	struct slab *p = &t->slab[s];
	int oldest = k->partial, spill = -1, count = 0;

	if (oldest >= 0) {
		count = t->slab[oldest].count;
		if (drain && (is->by_objects ? count > is->cpu_partial : count >= is->cpu_partial)) {
			spill = oldest;
			oldest = -1;
			count = 0;
		}
	}
	p->frozen = -1 - cpu; /* held, but not frozen */
	p->count = count + (is->by_objects ? p->objects - p->inuse : 1);
	p->next = oldest;
	k->partial = s;
	if (spill >= 0) {
		k->stat[CPU_PARTIAL_DRAIN]++;
		unfreeze_partials(t, c, k, spill);
	}
}

/* ------------------------------------------------------------------------------------------- CPU slab, slow paths */

static rare void deactivate(struct twin *t, int c, struct cpu *k)
{
	int s = k->page, i = k->freelist, era = t->cache[c].is.era;
	struct slab *p = &t->slab[s];
	int tail = era == ERA_CPU_PARTIAL ? p->freelist >= 0 : i < 0;
	int16_t *link = t->link + p->base;

	if (p->freelist >= 0)
		k->stat[DEACTIVATE_REMOTE_FREES]++;
	if (era == ERA_CPU_PARTIAL) {
		if (i >= 0) {
			int last = i;

			p->inuse--;
			while (link[last] >= 0) {
				last = link[last];
				p->inuse--;
			}
			link[last] = p->freelist;
			p->freelist = i;
		}
	} else {
		while (i >= 0) {
			int next = link[i];

			link[i] = p->freelist;
			p->freelist = i;
			p->inuse--;
			i = next;
		}
	}
	k->freelist = -1;
	k->page = -1;
	p->frozen = 0;
	if (p->inuse == 0 && crowded(t, c, s)) {
		retire(t, c, s, k);
	} else if (era != ERA_CPU_PARTIAL && p->inuse == 0) {
		k->stat[DEACTIVATE_EMPTY]++;
		add_partial(t, c, s, 1);
	} else if (p->freelist >= 0) {
		add_partial(t, c, s, tail);
		k->stat[tail ? DEACTIVATE_TO_TAIL : DEACTIVATE_TO_HEAD]++;
	} else {
		k->stat[DEACTIVATE_FULL]++;
	}
}

static int first_partial(const struct twin *t, int c, int cpu, int node, int64_t gfp)
{
	int i, home = cpu >> t->cpu_shift;
	const struct node *nodes = &t->node[c * t->nodes];
	int s = nodes[node >= 0 ? node : home].head;

	int later = t->cache[c].is.era == ERA_CPU_PARTIAL;

	/* Since 3.x a mask alone does not bind: a node has to be asked for. */
	if (s < 0 && t->nodes > 1 && (!(gfp & GFP_THISNODE) || (later && node < 0)))
		for (i = 0; i < t->nodes; i++)
			if (nodes[home ^ i].nr_partial > t->cache[c].is.min_partial)
				return nodes[home ^ i].head;
	return s;
}

static int get_partial(struct twin *t, int c, int cpu, struct cpu *k, int node, int64_t gfp)
{
	const struct setup *is = &t->cache[c].is;
	int s = first_partial(t, c, cpu, node, gfp), first = -1, taken = 0;

	if (is->era != ERA_CPU_PARTIAL) {
		if (s >= 0)
			remove_partial(t, c, s);
		return s;
	}
	while (s >= 0) {
		int next = t->slab[s].next;

		remove_partial(t, c, s);
		if (is->by_objects)
			taken += t->slab[s].objects - t->slab[s].inuse;
		if (first < 0) {
			first = s;
			k->stat[ALLOC_FROM_PARTIAL]++;
		} else {
			put_cpu_partial(t, c, cpu, k, s, 0);
			k->stat[CPU_PARTIAL_NODE]++;
			if (!is->by_objects)
				taken++;
		}
		if (is->cpu_partial == 0 || taken > is->cpu_partial / 2)
			break;
		s = next;
	}
	return first;
}

static uint64_t load_freelist(struct twin *t, int cpu, struct cpu *k, int s)
{
	struct slab *p = &t->slab[s];
	int i = p->freelist;

	k->freelist = t->link[p->base + i];
	k->page = s;
	p->freelist = -1;
	p->inuse = p->objects;
	p->frozen = 1 + cpu;
	return 1 + ((uint64_t)s << 16 | i);
}

/* A slab that no CPU holds, of the lists or a new one. */
static int find_slab(struct twin *t, int c, int cpu, struct cpu *k, int node, int64_t gfp)
{
	int s = get_partial(t, c, cpu, k, node, gfp);

	if (s >= 0) {
		if (t->cache[c].is.era != ERA_CPU_PARTIAL)
			k->stat[ALLOC_FROM_PARTIAL]++;
		return s;
	}
	s = new_slab(t, c, cpu, node, gfp);
	if (s >= 0)
		k->stat[ALLOC_SLAB]++;
	return s;
}

static rare uint64_t alloc_slow(struct twin *t, int c, int cpu, struct cpu *k, int node, int64_t gfp)
{
	int s = k->page, era = t->cache[c].is.era;

	if (era == ERA_CPU_PARTIAL)
		k->stat[ALLOC_SLOWPATH]++;
	if (s >= 0) {
		struct slab *p = &t->slab[s];
		int fits = node < 0 || p->node == node;

		if (era == ERA_CPU_PARTIAL && !fits) {
			k->stat[ALLOC_NODE_MISMATCH]++;
			deactivate(t, c, k);
		} else if (fits && p->freelist >= 0) {
			k->stat[ALLOC_REFILL]++;
			if (era != ERA_CPU_PARTIAL)
				k->stat[ALLOC_SLOWPATH]++;
			return load_freelist(t, cpu, k, s);
		} else if (era == ERA_CPU_PARTIAL) {
			k->page = -1;
			p->frozen = 0;
			k->stat[DEACTIVATE_BYPASS]++;
		} else {
			k->stat[ALLOC_REFILL] += fits;
			deactivate(t, c, k);
		}
	}
	while (k->partial >= 0) {
		s = k->partial;
		k->partial = t->slab[s].next;
		if (node < 0 || t->slab[s].node == node) {
			k->stat[CPU_PARTIAL_ALLOC]++;
			return load_freelist(t, cpu, k, s);
		}
		t->slab[s].next = -1;
		unfreeze_partials(t, c, k, s);
	}
	s = -1;
	if (era == ERA_CPU_PARTIAL && node >= 0 && !(gfp & GFP_THISNODE))
		s = find_slab(t, c, cpu, k, node, GFP_THISNODE); /* the node asked for alone, without waiting */
	if (s < 0)
		s = find_slab(t, c, cpu, k, node, gfp);
	if (s < 0)
		return 0;
	if (era != ERA_CPU_PARTIAL)
		k->stat[ALLOC_SLOWPATH]++;
	return load_freelist(t, cpu, k, s);
}

/* The first or the last free object of a slab that no CPU holds. */
static rare void free_turning(struct twin *t, int c, int cpu, struct cpu *k, int s, int prior)
{
	const struct setup *is = &t->cache[c].is;
	struct slab *p = &t->slab[s];

	if (prior < 0 && is->era == ERA_CPU_PARTIAL && is->cpu_partial > 0) {
		k->stat[CPU_PARTIAL_FREE]++;
		put_cpu_partial(t, c, cpu, k, s, 1);
	} else if (p->inuse == 0 && (is->era != ERA_CPU_PARTIAL || crowded(t, c, s))) {
		if (prior >= 0) {
			remove_partial(t, c, s);
			k->stat[FREE_REMOVE_PARTIAL]++;
		}
		k->stat[FREE_SLAB]++;
		discard_slab(t, c, s);
	} else if (prior < 0) {
		add_partial(t, c, s, 1);
		k->stat[FREE_ADD_PARTIAL]++;
	}
}

/* ------------------------------------------------------------------------------------------ 7.3: slabs, in sheaves */

/* Whole free lists from the head on; the surplus of the last goes back to the tail. */
static int refill(struct twin *t, int c, int cpu, struct cpu *k, int64_t gfp, uint64_t *out, int wanted)
{
	struct node *n = &t->node[c * t->nodes];
	int got = 0, i, s;

	while (got < wanted && n->head >= 0) {
		struct slab *p = &t->slab[s = n->head];
		const int16_t *link = t->link + p->base;

		remove_partial(t, c, s);
		for (i = p->freelist; i >= 0 && got < wanted; i = link[i], p->inuse++)
			out[got++] = 1 + ((uint64_t)s << 16 | i);
		p->freelist = i;
		if (i >= 0)
			add_partial(t, c, s, 1);
	}
	while (got < wanted) {
		s = new_slab(t, c, cpu, -1, gfp);
		if (s < 0)
			break;
		k->stat[ALLOC_SLAB]++;
		for (i = 0; i < t->slab[s].objects && got < wanted; i++)
			out[got++] = 1 + ((uint64_t)s << 16 | i);
		t->slab[s].inuse = i;
		t->slab[s].freelist = i < t->slab[s].objects ? i : -1;
		if (t->slab[s].freelist >= 0)
			add_partial(t, c, s, 0);
	}
	return got;
}

static rare uint64_t single(struct twin *t, int c, int cpu, struct cpu *k, int node, int64_t gfp)
{
	struct node *n = &t->node[c * t->nodes];
	int s = n->head, i;

	k->stat[ALLOC_SLOWPATH]++;
	if (s >= 0) {
		struct slab *p = &t->slab[s];

		i = p->freelist;
		p->freelist = t->link[p->base + i];
		p->inuse++;
		if (p->freelist < 0)
			remove_partial(t, c, s);
		return 1 + ((uint64_t)s << 16 | i);
	}
	s = -1;
	if (node >= 0 && !(gfp & GFP_THISNODE))
		s = new_slab(t, c, cpu, node, GFP_THISNODE);
	if (s < 0)
		s = new_slab(t, c, cpu, node, gfp);
	if (s < 0)
		return 0;
	k->stat[ALLOC_SLAB]++;
	t->slab[s].inuse = 1;
	t->slab[s].freelist = t->slab[s].objects > 1 ? 1 : -1;
	if (t->slab[s].freelist >= 0)
		add_partial(t, c, s, 0);
	return 1 + ((uint64_t)s << 16);
}

static void free_chain(struct twin *t, int c, struct cpu *k, int s, int head, int tail, int count)
{
	struct slab *p = &t->slab[s];
	int prior = p->freelist;

	t->link[p->base + tail] = prior;
	p->freelist = head;
	p->inuse -= count;
	if (prior >= 0 && p->inuse > 0)
		return;
	if (p->inuse == 0 && crowded(t, c, s)) {
		if (prior >= 0) {
			remove_partial(t, c, s);
			k->stat[FREE_REMOVE_PARTIAL]++;
		}
		k->stat[FREE_SLAB]++;
		discard_slab(t, c, s);
	} else if (prior < 0) {
		add_partial(t, c, s, 1);
		k->stat[FREE_ADD_PARTIAL]++;
	}
}

/* From the end, the objects of one slab as one chain; the third foreign object ends it. */
static rare void flush(struct twin *t, int c, struct cpu *k, uint64_t *object, int size)
{
	while (size > 0) {
		uint64_t first = object[--size] - 1;
		int s = first >> 16, tail = first & 0xFFFF, head = tail, count = 1, same = size, misses = 3, j = size;
		int16_t *link = t->link + t->slab[s].base;

		while (j > 0) {
			uint64_t other = object[--j];

			if ((int)((other - 1) >> 16) == s) {
				link[(other - 1) & 0xFFFF] = head;
				head = (other - 1) & 0xFFFF;
				count++;
				object[j] = object[--same];
				object[same] = other;
			} else if (--misses == 0) {
				break;
			}
		}
		size = same;
		free_chain(t, c, k, s, head, tail, count);
	}
}

static int pop(struct twin *t, int32_t *list)
{
	int h = *list;

	if (h >= 0)
		*list = t->sheaf[h].next;
	return h;
}

static void push(struct twin *t, int32_t *list, int h)
{
	t->sheaf[h].next = *list;
	*list = h;
}

static int new_sheaf(struct twin *t)
{
	int h = pop(t, &t->retired);

	if (h < 0)
		h = t->sheaves++;
	t->sheaf[h].size = 0;
	return h;
}

static void swap(struct cpu *k)
{
	int h = k->main;

	k->main = k->spare;
	k->spare = h;
}

static rare uint64_t sheaf_alloc(struct twin *t, int c, int cpu, struct cpu *k, int node, int64_t gfp)
{
	struct node *n = &t->node[c * t->nodes];
	int capacity = t->cache[c].is.cpu_partial, h;

	if (t->sheaf[k->main].size == 0) {
		if (k->spare >= 0 && t->sheaf[k->spare].size > 0) {
			swap(k);
		} else if (n->full >= 0) {
			push(t, &n->empty, k->main);
			k->main = pop(t, &n->full);
			n->nr_full--;
		} else {
			h = k->spare;
			k->spare = -1;
			if (h < 0)
				h = pop(t, &n->empty);
			if (h < 0)
				h = new_sheaf(t);
			t->sheaf[h].size = refill(t, c, cpu, k, gfp, t->sheaf[h].object, capacity);
			if (t->sheaf[h].size < capacity) {
				flush(t, c, k, t->sheaf[h].object, t->sheaf[h].size);
				t->sheaf[h].size = 0;
				push(t, &t->retired, h);
				return single(t, c, cpu, k, node, gfp);
			}
			if (k->spare < 0)
				k->spare = k->main;
			else
				push(t, &n->empty, k->main);
			k->main = h;
		}
	}
	k->stat[ALLOC_FASTPATH]++;
	return t->sheaf[k->main].object[--t->sheaf[k->main].size];
}

static rare void make_room(struct twin *t, int c, struct cpu *k)
{
	struct node *n = &t->node[c * t->nodes];
	int capacity = t->cache[c].is.cpu_partial, h = -1, had_spare = k->spare >= 0;

	if (had_spare && t->sheaf[k->spare].size < capacity) {
		swap(k);
		return;
	}
	if (had_spare && n->nr_full >= MAX_FULL) {
		h = k->spare;
		flush(t, c, k, t->sheaf[h].object, t->sheaf[h].size);
		t->sheaf[h].size = 0;
		had_spare = 0;
	} else {
		h = pop(t, &n->empty);
		if (h < 0)
			h = new_sheaf(t);
	}
	if (had_spare) {
		push(t, &n->full, k->main);
		n->nr_full++;
	} else {
		k->spare = k->main;
	}
	k->main = h;
}

static inline uint64_t alloc(struct twin *t, int c, int cpu, int node, int64_t gfp)
{
	struct cpu *k = &t->cpu[c * t->cpus + cpu];
	int i = k->freelist;

	if (likely(i >= 0)) {
		struct slab *p = &t->slab[k->page];

		if (likely(node < 0 || p->node == node)) {
			k->freelist = t->link[p->base + i];
			k->stat[ALLOC_FASTPATH]++;
			return 1 + ((uint64_t)k->page << 16 | i);
		}
	}
	if (k->main >= 0) {
		struct sheaf *h = &t->sheaf[k->main];

		if (likely(h->size > 0)) {
			k->stat[ALLOC_FASTPATH]++;
			return h->object[--h->size];
		}
		return sheaf_alloc(t, c, cpu, k, node, gfp);
	}
	return alloc_slow(t, c, cpu, k, node, gfp);
}

static inline void give_back(struct twin *t, int cpu, uint64_t handle)
{
	int s = (handle - 1) >> 16, i = (handle - 1) & 0xFFFF, c = t->slab[s].cache, prior;
	struct slab *p = &t->slab[s];
	struct cpu *k = &t->cpu[c * t->cpus + cpu];

	t->cache[c].live--;
	if (k->page == s) {
		t->link[p->base + i] = k->freelist;
		k->freelist = i;
		k->stat[FREE_FASTPATH]++;
		return;
	}
	if (k->main >= 0) {
		if (t->sheaf[k->main].size == t->cache[c].is.cpu_partial)
			make_room(t, c, k);
		t->sheaf[k->main].object[t->sheaf[k->main].size++] = handle;
		k->stat[FREE_FASTPATH]++;
		return;
	}
	k->stat[FREE_SLOWPATH]++;
	prior = p->freelist;
	t->link[p->base + i] = prior;
	p->freelist = i;
	p->inuse--;
	if (p->frozen > 0)
		k->stat[FREE_FROZEN]++;
	else if (p->frozen == 0 && (prior < 0 || p->inuse == 0))
		free_turning(t, c, cpu, k, s, prior);
}

/* ------------------------------------------------------------------------------------------------- from Python */

/* Run the events; the number run, or -1 when the arrays were too small. */
int64_t twin_follow(struct twin *t, const struct event *e, int64_t rows, const struct kind *kinds)
{
	const struct event *end = e + rows;
	uint64_t *handle = t->handle;
	int64_t met[COUNTS] = {0};
	int i;

	for (; e < end; e++) {
		int c;
		uint64_t held;

		if (e + AHEAD < end)
			__builtin_prefetch(&handle[e[AHEAD].object], 1);
		if (e->op > BULK_FREE)
			continue;
		c = kinds[e->kind].cache;
		if (c < 0)
			continue;
		held = handle[e->object];
		if (e->op == ALLOC || e->op == BULK_ALLOC) {
			if (t->slabs >= t->room || t->links >= t->link_room)
				return -1;
			if (held) {
				met[IMPLIED_FREES]++;
				give_back(t, e->cpu, held);
			}
			held = alloc(t, c, e->cpu, kinds[e->kind].node, kinds[e->kind].gfp);
			handle[e->object] = held;
			if (held) {
				met[ALLOCS]++;
				t->cache[c].live++;
			} else {
				met[FAILED]++;
			}
		} else if (held) {
			met[FREES]++;
			give_back(t, e->cpu, held);
			handle[e->object] = 0;
		} else {
			met[UNKNOWN_FREES]++;
		}
	}
	for (i = 0; i < COUNTS; i++)
		t->met[i] += met[i];
	return rows;
}

static void *take(size_t size)
{
	void *p = aligned_alloc(64, (size + 63) & ~(size_t)63);

	memset(p, 0, size);
	return p;
}

struct twin *twin_new(int32_t caches, const struct setup *setup, int32_t cpus, int32_t nodes, int32_t cpu_shift,
		      int64_t objects, int64_t room, int64_t link_room, int64_t limited, int64_t total, int64_t min)
{
	struct twin *t = take(sizeof(*t));
	int i;

	t->caches = caches;
	t->cpus = cpus;
	t->nodes = nodes;
	t->cpu_shift = cpu_shift;
	t->room = room;
	t->link_room = link_room;
	t->limited = limited;
	t->cache = take(caches * sizeof(*t->cache));
	t->cpu = take(caches * cpus * sizeof(*t->cpu));
	t->node = take(caches * nodes * sizeof(*t->node));
	t->slab = take((room + 1) * sizeof(*t->slab));
	t->link = take((link_room + 4096) * sizeof(*t->link));
	t->handle = take(objects * sizeof(*t->handle));
	for (i = 0; i < caches; i++) {
		t->cache[i].is = setup[i];
		t->cache[i].retired = -1;
	}
	t->retired = -1;
	t->sheaf = take(caches * (8 * cpus + 64) * sizeof(*t->sheaf));
	for (i = 0; i < caches * cpus; i++) {
		t->cpu[i].freelist = t->cpu[i].page = t->cpu[i].partial = t->cpu[i].main = t->cpu[i].spare = -1;
		if (setup[i / cpus].era == ERA_7_3)
			t->cpu[i].main = new_sheaf(t);
	}
	for (i = 0; i < caches * nodes; i++)
		t->node[i].head = t->node[i].tail = t->node[i].full = t->node[i].empty = -1;
	for (i = 0; i < nodes; i++) {
		t->zone[i].total = total;
		t->zone[i].min = min;
	}
	return t;
}

/* stat: [caches][cpus][STATS]; node: [caches][nodes][2]; live and most_pages: [caches]; zone: [nodes][5] */
void twin_read(const struct twin *t, int64_t *stat, int64_t *node, int64_t *live, int64_t *most, int64_t *zone,
	       int64_t *met, int64_t *handle, int64_t objects)
{
	int64_t i;

	for (i = 0; i < (int64_t)t->caches * t->cpus; i++)
		memcpy(stat + i * STATS, t->cpu[i].stat, sizeof(t->cpu[i].stat));
	for (i = 0; i < (int64_t)t->caches * t->nodes; i++) {
		node[2 * i] = t->node[i].nr_partial;
		node[2 * i + 1] = t->node[i].nr_slabs;
	}
	for (i = 0; i < t->caches; i++) {
		live[i] = t->cache[i].live;
		most[i] = t->cache[i].most_pages;
	}
	for (i = 0; i < t->nodes; i++) {
		const struct zone *z = &t->zone[i];
		const int64_t row[] = {z->used, z->ok, z->fail, z->frees, z->below_low};

		memcpy(zone + 5 * i, row, sizeof(row));
	}
	memcpy(met, t->met, sizeof(t->met));
	for (i = 0; i < objects; i++)
		handle[i] = (int64_t)t->handle[i] - 1;
}

void twin_free(struct twin *t)
{
	free(t->cache);
	free(t->cpu);
	free(t->node);
	free(t->slab);
	free(t->link);
	free(t->handle);
	free(t->sheaf);
	free(t);
}
