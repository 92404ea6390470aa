{{- define "claude-proxy.name" -}}
{{- $both := printf "%s-%s" .Release.Name .Chart.Name -}}
{{- ternary .Release.Name $both (contains .Chart.Name .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "claude-proxy.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "claude-proxy.metadata" -}}
name: {{ include "claude-proxy.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "claude-proxy.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "claude-proxy.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* Whether more than one pod may run: "true" or nothing. */ -}}
{{- define "claude-proxy.several" -}}
{{- if or (gt (int .Values.replicaCount) 1) .Values.autoscaling.enabled }}true{{ end -}}
{{- end }}

{{- /* Stop at values that would start a proxy which does not work. */ -}}
{{- define "claude-proxy.check" -}}
{{- if include "claude-proxy.several" . }}
{{- if not .Values.redis.existingSecret }}{{ fail "redis.existingSecret: more than one replica needs a Redis, through which they share the pool; name a Secret with its address" }}{{ end }}
{{- if .Values.persistence.enabled }}{{ fail "persistence.enabled: a volume belongs to one replica; set it to false for more than one, which keep their state in the Redis" }}{{ end }}
{{- if not .Values.existingSecret }}{{ fail "existingSecret: more than one replica needs a Secret with the tokens, because each replica would make its own; name one" }}{{ end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}{{ fail "ingress.host: an ingress needs the name that clients use; set it" }}{{ end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.existingSecret) }}{{ fail "existingSecret: the ServiceMonitor reads LITELLM_MASTER_KEY from it; name a Secret" }}{{ end }}
{{- end }}

{{- define "claude-proxy.container" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
{{- end }}
