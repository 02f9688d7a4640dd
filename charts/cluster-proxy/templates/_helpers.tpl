{{/* Tag of every image. */}}
{{- define "cluster-proxy.tag" -}}
{{- .Values.tag | default (printf "v%s" (trimPrefix "v" .Chart.Version)) -}}
{{- end -}}

{{/* The repository of the one image. */}}
{{- define "cluster-proxy.repository" -}}
{{- if .Values.registry -}}{{ trimSuffix "/" .Values.registry }}/{{ end -}}{{ .Values.image }}
{{- end -}}

{{- define "cluster-proxy.image" -}}
{{ include "cluster-proxy.repository" . }}:{{ include "cluster-proxy.tag" . }}
{{- end -}}

{{- define "cluster-proxy.proxyServerImage" -}}
{{ .Values.proxyServerImage | default (include "cluster-proxy.repository" .) }}:{{ include "cluster-proxy.tag" . }}
{{- end -}}

{{- define "cluster-proxy.proxyAgentImage" -}}
{{ .Values.proxyAgentImage | default (include "cluster-proxy.repository" .) }}:{{ include "cluster-proxy.tag" . }}
{{- end -}}

{{/* Of every object. Never of a selector: those are immutable and have labels of their own. */}}
{{- define "cluster-proxy.labels" -}}
app.kubernetes.io/name: cluster-proxy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* These two select pods and can never change: an upgrade would be refused. */}}
{{- define "cluster-proxy.managerSelector" -}}
open-cluster-management.io/addon: cluster-proxy
component: cluster-proxy-manager
{{- end -}}

{{- define "cluster-proxy.userServerSelector" -}}
open-cluster-management.io/addon: cluster-proxy
component: cluster-proxy-addon-user
{{- end -}}

{{/* "true" when the gate is on under its name or under the one of release 0.10. */}}
{{- define "cluster-proxy.clusterProfile" -}}
{{- $gates := .Values.featureGates | default dict -}}
{{- or $gates.clusterProfile $gates.clusterProfileAccessProvider | default false -}}
{{- end -}}

{{- define "cluster-proxy.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "cluster-proxy.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Names are looked up, and the kube-apiserver is asked. */}}
{{- define "cluster-proxy.hubEgress" -}}
- ports:
  - {protocol: UDP, port: 53}
  - {protocol: TCP, port: 53}
  - {protocol: UDP, port: 5353}
  - {protocol: TCP, port: 5353}
- ports:
  - {protocol: TCP, port: 443}
  - {protocol: TCP, port: 6443}
{{- end -}}

{{/* The tunnel's port for clients. */}}
{{- define "cluster-proxy.tunnelEgress" -}}
- ports:
  - {protocol: TCP, port: 8090}
  to:
  - podSelector:
      matchLabels:
        proxy.open-cluster-management.io/component-name: proxy-server
{{- end -}}
