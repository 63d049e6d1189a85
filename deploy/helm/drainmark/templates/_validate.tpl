{{/* What the schema cannot say: values that do not go together. */}}
{{- define "drainmark.validate" -}}
{{- $trial := .Values.trial -}}
{{- if eq .Values.mode "up" -}}
{{- if or $trial.rabbitmq.enabled $trial.nats.enabled $trial.redis.enabled -}}
{{- fail "mode up has its own broker and store: it cannot be combined with trial.rabbitmq, trial.nats or trial.redis" -}}
{{- end -}}
{{- if .Values.keda.enabled -}}
{{- fail "keda.enabled scales the consumers of mode roles: mode up has none" -}}
{{- end -}}
{{- else -}}
{{- if and $trial.rabbitmq.enabled $trial.nats.enabled -}}
{{- fail "trial.rabbitmq.enabled and trial.nats.enabled: a deployment has one broker" -}}
{{- end -}}
{{- $own := and (get .Values.broker "backend").secretName (get .Values.broker "consumer").secretName -}}
{{- if and (include "drainmark.trialBroker" .) (or .Values.broker.secretName .Values.broker.backend.secretName .Values.broker.consumer.secretName) -}}
{{- fail "broker.secretName and a trial broker: a deployment has one broker" -}}
{{- end -}}
{{- if not (or (include "drainmark.trialBroker" .) .Values.broker.secretName $own) -}}
{{- fail "broker.secretName must name a Secret that has the broker's URL, such as amqp://USER:PASSWORD@HOST/VHOST (or set trial.rabbitmq.enabled or trial.nats.enabled, to try it out)" -}}
{{- end -}}
{{- if and $trial.redis.enabled (or .Values.store.secretName .Values.store.replica.secretName) -}}
{{- fail "store.secretName and trial.redis.enabled: a deployment has one store" -}}
{{- end -}}
{{- if not (or $trial.redis.enabled .Values.store.secretName) -}}
{{- fail "store.secretName must name a Secret that has the URL of the store's master, such as redis://USER:PASSWORD@HOST (or set trial.redis.enabled, to try it out)" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs must name the Gateway that the route is attached to" -}}
{{- end -}}
{{- end -}}
