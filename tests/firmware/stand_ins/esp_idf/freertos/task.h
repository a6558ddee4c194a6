#pragma once

#include "freertos/FreeRTOS.h"

typedef struct task *TaskHandle_t;

UBaseType_t uxTaskGetStackHighWaterMark(TaskHandle_t task);
void vTaskDelay(TickType_t ticks);
