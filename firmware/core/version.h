/* The firmware's own version, as `hello` and `info` tell it. */
#ifndef EDGEDEPLOY_VERSION_H
#define EDGEDEPLOY_VERSION_H

#define FIRMWARE_VERSION "1.0.0"

#endif
