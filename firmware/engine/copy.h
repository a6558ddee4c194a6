/* Moving elements between two sets of steps. */
#ifndef EDGEDEPLOY_COPY_H
#define EDGEDEPLOY_COPY_H

#include "engine/model.h"

#define COPY_MAX_RANK 8

/* Loops, the outermost first; steps and places in elements. A `from` of 0 repeats an element. */
typedef struct {
    uint32_t rank;
    uint32_t shape[COPY_MAX_RANK];
    int32_t from[COPY_MAX_RANK], to[COPY_MAX_RANK];
    int32_t from_at, to_at;
    int32_t shift; /* to the output's exponent; 0 mostly */
} copy_job;

/* Adds the next inner loop to a job; joined with the one around it where that can be. */
void copy_loop(copy_job *job, uint32_t size, int32_t from, int32_t to);
/* After the last loop. */
void copy_end(copy_job *job);
/* Makes the step run so many jobs, to be filled in: job i takes input i, or with several outputs
 * makes output i. The outputs have their shapes. NULL where there is no memory. */
copy_job *copy_jobs(model *model, step *step, uint32_t count);
/* Before the jobs, every element of the output is set. */
void copy_fill(const step *step, int32_t filling);
/* Steps of a tensor that lies whole, in elements. */
void copy_steps(const tensor *tensor, int32_t *steps);

#endif
