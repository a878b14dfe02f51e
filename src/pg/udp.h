/*
 * udp.h
 *		The UDP socket of gossip, and addresses as text.
 *
 * An address is "host:port", "[IPv6]:port" or a host alone (then the port is
 * datacake.port).  Looking a name up may block for seconds, so answers are
 * kept: a found one for minutes, and also beyond that while the name server
 * is silent; a failure longer each time.
 *
 * State of the one process that gossips; not for others.
 */
#ifndef DATACAKE_UDP_H
#define DATACAKE_UDP_H

#include "postgres.h"

#include "shmem.h"

/* Does the socket listen on every address ("", "*", "0.0.0.0", "::")? */
extern bool dc_udp_wildcard(const char *host);

/* Binds the non-blocking socket.  ERROR if that is not possible. */
extern pgsocket dc_udp_open(const char *host, int port);

/* Sends; what fails is lost like any datagram. */
extern void dc_udp_send(const char *address, const void *bytes, size_t length);

/*
 * Takes the next datagram.  Returns its length, more than `size` if it was
 * longer, or -1 when there is none.  `from` becomes its numeric address.
 */
extern ssize_t dc_udp_receive(void *bytes, size_t size,
							  char from[DC_ADDRESS_BYTES]);

/* The numeric form of an address; false if it is not known now. */
extern bool dc_udp_numeric(const char *address, char numeric[DC_ADDRESS_BYTES]);

/* "host:port" of a host that may carry its own port. */
extern char *dc_udp_with_port(const char *host, int port);

#endif
