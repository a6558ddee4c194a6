#pragma once

#include <stdint.h>

typedef uint32_t TickType_t;
typedef unsigned int UBaseType_t;

#define configTICK_RATE_HZ 1000
#define pdMS_TO_TICKS(ms) ((TickType_t)((uint64_t)(ms) * configTICK_RATE_HZ / 1000))
