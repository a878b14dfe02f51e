/*
 * udp.c
 *		The UDP socket of gossip, and addresses as text.
 */
#include "udp.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "guc.h"

#define FOUND_US     (INT64CONST(300) * 1000000)
#define RETRY_US     (INT64CONST(10) * 1000000)
#define RETRY_US_MAX (INT64CONST(600) * 1000000)

/* Peers' names and seeds; numeric addresses are not kept here. */
#define NAMES_MAX 64

typedef struct Endpoint
{
	struct sockaddr_storage address;
	socklen_t length; /* 0: none */
} Endpoint;

typedef struct HostName
{
	char text[DC_ADDRESS_BYTES];
	Endpoint endpoint; /* the last answer, also when it is old */
	uint64 ask_at_us;
	uint64 retry_us;
	uint64 used_at_us;
} HostName;

static pgsocket udp = PGINVALID_SOCKET;
static int udp_family;
static HostName names[NAMES_MAX];

/* ---- text --------------------------------------------------------------- */

bool
dc_udp_wildcard(const char *host)
{
	return host[0] == '\0' || strcmp(host, "*") == 0 ||
		   strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* Takes "host:port" apart; false if it is not one. */
static bool
split_address(const char *address, char host[DC_ADDRESS_BYTES], char port[8])
{
	const char *colon = strrchr(address, ':');
	const char *end = address + strlen(address);

	if (end - address >= DC_ADDRESS_BYTES)
		return false;
	if (address[0] == '[')
	{
		end = strchr(address, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return false;
		colon = end[1] == ':' ? end + 1 : NULL;
		address++;
	}
	else if (colon != NULL && strchr(address, ':') != colon)
		colon = NULL; /* a bare IPv6 address */
	else if (colon != NULL)
		end = colon;
	if (colon != NULL && (colon[1] == '\0' || strlen(colon + 1) > 5))
		return false;
	snprintf(host, DC_ADDRESS_BYTES, "%.*s", (int) (end - address), address);
	if (colon != NULL)
		snprintf(port, 8, "%s", colon + 1);
	else
		snprintf(port, 8, "%d", datacake_port);
	return host[0] != '\0';
}

static void
join_address(char address[DC_ADDRESS_BYTES], const char *host, const char *port)
{
	bool v6 = strchr(host, ':') != NULL;

	snprintf(address, DC_ADDRESS_BYTES, v6 ? "[%s]:%s" : "%s:%s", host, port);
}

char *
dc_udp_with_port(const char *host, int port)
{
	char *address = palloc0(DC_ADDRESS_BYTES);
	char bare[DC_ADDRESS_BYTES];
	char digits[8];

	if (!split_address(host, bare, digits))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("address \"%s\" is not a host with an optional port",
						host)));
	join_address(address, bare, digits);
	return address;
}

/* An IPv4 peer on an IPv6 socket is shown as what it is. */
static void
print_endpoint(const Endpoint *endpoint, char address[DC_ADDRESS_BYTES])
{
	char host[NI_MAXHOST];
	char port[NI_MAXSERV];
	const char *shown = host;

	address[0] = '\0';
	if (getnameinfo((const struct sockaddr *) &endpoint->address,
					endpoint->length, host, sizeof(host), port, sizeof(port),
					NI_NUMERICHOST | NI_NUMERICSERV) != 0 ||
		strlen(host) + strlen(port) + 4 > DC_ADDRESS_BYTES)
		return;
	if (strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.') != NULL)
		shown = host + 7;
	join_address(address, shown, port);
}

/* ---- names -------------------------------------------------------------- */

static bool
look_up(const char *text, int flags, Endpoint *endpoint, const char **reason)
{
	struct addrinfo hints = {0};
	struct addrinfo *answer = NULL;
	char host[DC_ADDRESS_BYTES];
	char port[8];
	int code;

	*reason = "it is not an address";
	if (!split_address(text, host, port))
		return false;
	hints.ai_family = udp_family;
	hints.ai_socktype = SOCK_DGRAM;
	hints.ai_flags = flags | AI_NUMERICSERV;
	if (udp_family == AF_INET6)
		hints.ai_flags |= AI_V4MAPPED;
	code = getaddrinfo(host, port, &hints, &answer);
	if (code != 0 || answer == NULL)
	{
		*reason = code != 0 ? gai_strerror(code) : "it has no address";
		return false;
	}
	memcpy(&endpoint->address, answer->ai_addr, answer->ai_addrlen);
	endpoint->length = answer->ai_addrlen;
	freeaddrinfo(answer);
	return true;
}

static HostName *
find_name(const char *text)
{
	HostName *name = &names[0];

	for (int i = 0; i < NAMES_MAX; i++)
	{
		if (strcmp(names[i].text, text) == 0)
			return &names[i];
		if (names[i].used_at_us < name->used_at_us)
			name = &names[i];
	}
	memset(name, 0, sizeof(*name));
	strlcpy(name->text, text, sizeof(name->text));
	return name;
}

static const Endpoint *
resolve(const char *text)
{
	static Endpoint numeric;
	uint64 now = dc_now_us();
	const char *reason;
	HostName *name;

	if (look_up(text, AI_NUMERICHOST, &numeric, &reason))
		return &numeric;
	name = find_name(text);
	name->used_at_us = now;
	if (now >= name->ask_at_us)
	{
		if (look_up(text, 0, &name->endpoint, &reason))
		{
			name->retry_us = 0;
			name->ask_at_us = dc_now_us() + FOUND_US;
		}
		else
		{
			if (name->retry_us == 0)
				ereport(LOG, (errmsg("could not find address \"%s\" of another "
									 "datacake node: %s",
									 text, reason)));
			name->retry_us =
				Min(Max(2 * name->retry_us, RETRY_US), RETRY_US_MAX);
			name->ask_at_us = dc_now_us() + name->retry_us;
		}
	}
	return name->endpoint.length > 0 ? &name->endpoint : NULL;
}

bool
dc_udp_numeric(const char *address, char numeric[DC_ADDRESS_BYTES])
{
	const Endpoint *endpoint = resolve(address);

	if (endpoint == NULL)
		return false;
	print_endpoint(endpoint, numeric);
	return numeric[0] != '\0';
}

/* ---- the socket --------------------------------------------------------- */

static pgsocket
try_bind(const struct addrinfo *at)
{
	pgsocket fd = socket(at->ai_family, SOCK_DGRAM, 0);
	int off = 0;

	if (fd == PGINVALID_SOCKET)
		return fd;
	/* One socket for both protocols where the system has both. */
	if (at->ai_family == AF_INET6)
		(void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
		fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
		bind(fd, at->ai_addr, at->ai_addrlen) == 0)
		return fd;
	{
		int saved_errno = errno;

		close(fd);
		errno = saved_errno;
	}
	return PGINVALID_SOCKET;
}

static bool
open_at(const char *host, int port, const char **reason)
{
	struct addrinfo hints = {0};
	struct addrinfo *answer = NULL;
	char digits[8];
	int code;

	snprintf(digits, sizeof(digits), "%d", port);
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_DGRAM;
	hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
	code = getaddrinfo(host, digits, &hints, &answer);
	if (code != 0)
	{
		*reason = gai_strerror(code);
		return false;
	}
	for (struct addrinfo *at = answer; at != NULL; at = at->ai_next)
	{
		udp = try_bind(at);
		udp_family = at->ai_family;
		if (udp != PGINVALID_SOCKET)
			break;
		*reason = strerror(errno);
	}
	freeaddrinfo(answer);
	return udp != PGINVALID_SOCKET;
}

pgsocket
dc_udp_open(const char *host, int port)
{
	const char *reason = "no address";
	bool any = dc_udp_wildcard(host);
	bool opened;

	/* "0.0.0.0" means IPv4; the others take both, or what there is. */
	if (any && strcmp(host, "0.0.0.0") != 0)
		opened =
			open_at("::", port, &reason) || open_at("0.0.0.0", port, &reason);
	else
		opened = open_at(host, port, &reason);
	if (!opened)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not bind UDP port %d of \"%s\": %s", port, host,
						reason),
				 errhint("Check \"datacake.listen_address\" and "
						 "\"datacake.port\"; each server needs a port of its "
						 "own.")));
	return udp;
}

void
dc_udp_send(const char *address, const void *bytes, size_t length)
{
	const Endpoint *to = resolve(address);

	if (to != NULL)
		(void) sendto(udp, bytes, length, 0,
					  (const struct sockaddr *) &to->address, to->length);
}

ssize_t
dc_udp_receive(void *bytes, size_t size, char from[DC_ADDRESS_BYTES])
{
	Endpoint sender;
	ssize_t length;

	sender.length = sizeof(sender.address);
	length = recvfrom(udp, bytes, size, MSG_TRUNC,
					  (struct sockaddr *) &sender.address, &sender.length);
	if (length >= 0)
		print_endpoint(&sender, from);
	return length;
}
