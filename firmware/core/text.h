/* The text commands: a superset of MLPerf Tiny's. */
#ifndef EDGEDEPLOY_TEXT_H
#define EDGEDEPLOY_TEXT_H

#include <stdbool.h>

/* The lines a board says after its start. */
void text_boot(void);
/* Carry out one command, terminated, whose words are taken apart in place. */
void text_command(char *command, bool too_long);

#endif
