/** Register 2 when no port is known: the egress table floods. Above every real port number (OFPP_MAX). */
export const FLOOD = 0xffffff00;
