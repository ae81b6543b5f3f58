{{/* The name of all objects, and the Dapr app id. */}}
{{- define "wsbridge.name" -}}
{{ .Values.fullnameOverride | default .Release.Name }}
{{- end }}

{{/* The labels of all objects and of the pods. */}}
{{- define "wsbridge.labels" -}}
app: {{ include "wsbridge.name" . }}
app.kubernetes.io/name: wsbridge
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion }}
app.kubernetes.io/component: websocket
app.kubernetes.io/part-of: wsbridge
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "wsbridge.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* A value of YAML as text. Helm reads whole numbers as floats, and would print 268435456 as 2.68435456e+08. */}}
{{- define "wsbridge.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* (list $ NAME DEFAULT): the value of a variable, from `settings` or the default of the chart, in quotes. */}}
{{- define "wsbridge.setting" -}}
{{- $settings := (index . 0).Values.settings -}}
{{- $name := index . 1 -}}
{{- if hasKey $settings $name }}{{ include "wsbridge.text" (get $settings $name) | quote }}{{ else }}{{ index . 2 | quote }}{{ end }}
{{- end }}

{{/* The component through which the bridge subscribes. */}}
{{- define "wsbridge.pubsub" -}}
{{ .Values.settings.WSBRIDGE_PUBSUB_NAME | default (ternary "pubsub-kafka-websocket" "pubsub-kafka" (eq .Values.mode "consumer-groups")) }}
{{- end }}

{{- define "wsbridge.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "wsbridge.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The variables with which the bridge checks tokens, and `wsbridge verify` makes them. */}}
{{- define "wsbridge.jwt" -}}
{{- if eq .Values.jwt.kind "jwks" -}}
- name: WSBRIDGE_JWT_JWKS_URL
  value: {{ .Values.jwt.jwksUrl }}
{{- else if eq .Values.jwt.kind "public-key" -}}
- name: WSBRIDGE_JWT_PUBLIC_KEY_FILE
  value: /etc/wsbridge/{{ .Values.jwt.key }}
{{- else -}}
- name: WSBRIDGE_JWT_SECRET_FILE
  value: /etc/wsbridge/{{ .Values.jwt.key }}
{{- with .Values.jwt.previousKey }}
- name: WSBRIDGE_JWT_SECRET_PREVIOUS_FILE
  value: /etc/wsbridge/{{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The volume with the key. */}}
{{- define "wsbridge.keys" -}}
- name: keys
  secret:
    secretName: {{ .Values.jwt.secret | default (include "wsbridge.name" .) }}
    items:
      {{- range compact (list .Values.jwt.key .Values.jwt.previousKey) }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}

{{/* How fast an autoscaler may change the number of replicas. */}}
{{- define "wsbridge.scaling" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - type: Pods
      value: {{ .Values.maxSurge }}
      periodSeconds: 60
scaleDown:
  stabilizationWindowSeconds: 900
  policies:
    - type: Pods
      value: 1
      periodSeconds: 300
{{- end }}

{{/* Combinations of values that cannot work, with the reason: a schema can only say that they are refused. */}}
{{- define "wsbridge.check" -}}
{{- if and (eq .Values.mode "single") (gt (int .Values.replicas) 1) }}
{{- fail "mode `single` runs one replica: two would share the Kafka partitions, and each would see half of the events. For several replicas set mode to redis or consumer-groups (docs/replicas.md)." }}
{{- end }}
{{- if and .Values.autoscaling.enabled (ne .Values.mode "redis") }}
{{- fail "autoscaling needs mode `redis`: one replica cannot be scaled, and with a consumer group for each replica the offsets of a new group must be committed before it starts (docs/replicas.md)." }}
{{- end }}
{{- /* Variable → the value of the chart that sets it. */}}
{{- $elsewhere := dict "HOST" "nothing: the chart sets it" "PORT" "service.port" "INTERNAL_PORT" "nothing: the chart sets it"
      "AUTH" "demo" "DEMO" "demo" "JWT_SECRET" "jwt.secret" "JWT_SECRET_PREVIOUS" "jwt.previousKey"
      "JWT_PUBLIC_KEY" "jwt.secret and jwt.kind" "JWT_JWKS_URL" "jwt.jwksUrl and jwt.kind" "ADMIN_TOKEN" "tokens.admin"
      "VIEWER_TOKEN" "tokens.viewer" "METRICS_TOKEN" "tokens.metrics" "REDIS_URL" "redis.secret and mode" }}
{{- range $name, $value := .Values.settings }}
{{- with get $elsewhere ($name | trimPrefix "WSBRIDGE_" | trimSuffix "_FILE") }}
{{- fail (printf "settings.%s must not be set here. Set %s" $name .) }}
{{- end }}
{{- end }}
{{- range $name := concat (keys .Values.podLabels) (keys .Values.podAnnotations) }}
{{- if regexMatch "^(app$|app.kubernetes.io/|kubectl.kubernetes.io/|dapr.io/(enable|app-|config$|block-|graceful-|disable-))" $name }}
{{- fail (printf "%s must not be set in podLabels or podAnnotations: the chart sets it." $name) }}
{{- end }}
{{- end }}
{{- if and .Values.demo (ne .Values.mode "single") }}
{{- fail "demo needs mode `single`: it is for a laptop." }}
{{- end }}
{{- end }}
