{{- define "sordino.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "sordino.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "sordino.selector" -}}
app.kubernetes.io/name: sordino
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sordino.labels" -}}
{{ include "sordino.selector" . }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version }}
{{- end }}

{{/* What every pod is: nobody in particular, with no right to anything. */}}
{{- define "sordino.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sordino.container" -}}
image: {{ include "sordino.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "sordino.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .className }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}

{{/*
A daemon refuses a key that its group may read, and a Secret's files are the group's. So they are
copied, into memory, by whoever will read them: after a renewal, restart the pod.
*/}}
{{- define "sordino.copy-keys" -}}
- name: keys
  {{- include "sordino.container" . | nindent 2 }}
  command: [sh, -c, "umask 077 && cp -L /secret/* /keys/"]
  resources: {limits: {memory: 32Mi}}
  volumeMounts:
    - {name: secret, mountPath: /secret, readOnly: true}
    - {name: keys, mountPath: /keys}
{{- end }}

{{- define "sordino.keys" -}}
- name: secret
  secret: {secretName: {{ . }}, defaultMode: 0440}
- name: keys
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}

{{/* How a site's two pods see site.toml. */}}
{{- define "sordino.site-configuration" -}}
{name: configuration, mountPath: /etc/sordino/site.toml, subPath: site.toml, readOnly: true}
{{- end }}
