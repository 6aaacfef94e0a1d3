package main

// What does not stand in the proto files: how Connect answers errors, the
// headers of a call, and what the host serves beside the methods.

// errorDetails are the messages of google.rpc that errors carry, in JSON.
func errorDetails() []any {
	text := object{"type": "string"}
	of := func(description string, properties object) object {
		return object{"type": "object", "description": description, "properties": properties}
	}
	list := func(properties object) object {
		return object{"type": "array", "items": object{"type": "object", "properties": properties}}
	}
	return []any{
		of("google.rpc.ErrorInfo: why, for machines; the domain is sop.", object{
			"reason": text, "domain": text, "metadata": object{"type": "object", "additionalProperties": text},
		}),
		of("google.rpc.Help: what to do.", object{"links": list(object{"description": text, "url": text})}),
		of("google.rpc.BadRequest: which fields are wrong.", object{"fieldViolations": list(object{"field": text, "description": text})}),
		of("google.rpc.RetryInfo: the same call may succeed later.", object{"retryDelay": text}),
	}
}

func errorSchemas() object {
	codes := []any{
		"canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists", "permission_denied",
		"resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented", "internal", "unavailable",
		"data_loss", "unauthenticated",
	}
	return object{
		"Error": object{
			"type": "object", "description": "How a call failed.", "required": []any{"code"},
			"properties": object{
				"code":    object{"type": "string", "enum": codes},
				"message": object{"type": "string", "description": "A sentence for people."},
				"details": object{"type": "array", "items": ref("ErrorDetails")},
			},
		},
		"ErrorDetails": object{
			"type": "object", "description": "A message of the type, encoded; debug is the same in JSON, where it is given.", "required": []any{"type", "value"},
			"properties": object{
				"type":  object{"type": "string", "examples": []any{"google.rpc.ErrorInfo"}},
				"value": object{"type": "string", "contentEncoding": "base64"},
				"debug": object{"anyOf": errorDetails()},
			},
		},
		"Readiness": object{
			"type": "object", "description": "Whether the host takes requests.", "required": []any{"state"},
			"properties": object{
				"state":   object{"type": "string", "enum": []any{"ok", "degraded", "starting", "stopping", "unavailable"}},
				"reasons": object{"type": "array", "items": object{"type": "string"}, "description": "Why the state is not ok, one sentence each."},
			},
		},
	}
}

func parameters() object {
	header := func(name, text string) object {
		return object{"name": name, "in": "header", "required": false, "schema": object{"type": "string"}, "description": text}
	}
	return object{
		"RequestId":   header("X-Request-Id", "Names the call in the audit log; made up where it is missing."),
		"Traceparent": header("Traceparent", "The trace that the call belongs to, in the form of W3C Trace Context."),
	}
}

func parameterRefs() []any {
	return []any{object{"$ref": "#/components/parameters/RequestId"}, object{"$ref": "#/components/parameters/Traceparent"}}
}

// hostPaths is what the host serves for machines that look after it.
func hostPaths() object {
	get := func(id, summary string, responses, more object) object {
		op := object{"operationId": id, "tags": []any{"operations"}, "summary": summary, "responses": responses}
		for key, value := range more {
			op[key] = value
		}
		return object{"get": op}
	}
	text := func(description, media string) object {
		return object{"description": description, "content": content(media, object{"type": "string"})}
	}
	readiness := func(description string) object {
		return object{"description": description, "content": content("application/json", ref("Readiness"))}
	}
	return object{
		"/healthz":      get("healthz", "Says that the process is alive.", object{"200": object{"description": "It is."}}, nil),
		"/readyz":       get("readyz", "Says whether the host takes requests.", object{"200": readiness("It does, perhaps degraded."), "503": readiness("It does not.")}, nil),
		"/openapi.json": get("openapi", "This document.", object{"200": object{"description": "The document.", "content": content("application/json", object{"type": "object"})}}, nil),
		"/metrics": get("metrics", "Metrics for Prometheus.", object{
			"200": text("The metrics.", "text/plain"), "401": object{"description": "The caller could not be identified."},
			"403": object{"description": "The caller lacks the permission."}, "503": text("Too many scrapes at once.", "text/plain"),
		}, object{"x-sop-permission": "metrics.read"}),
	}
}
