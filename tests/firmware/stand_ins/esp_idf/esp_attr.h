#pragma once

#define EXT_RAM_BSS_ATTR
