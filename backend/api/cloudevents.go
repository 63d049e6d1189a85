package api

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/api/cloudevents"
	"github.com/drainmark/drainmark/internal/jsonstring"
	"github.com/drainmark/drainmark/store"
)

// reader makes the records of an append.
type reader func(*handler, *request, drainmark.Record) ([]drainmark.Record, func(), error)

// readerOf returns what makes the records of a request. It has one content type at most.
func readerOf(r *request) (reader, error) {
	contentType := r.Header.Get("Content-Type")
	switch {
	case hasType(contentType, cloudevents.Structured):
		return (*handler).readEvent, nil
	case hasType(contentType, cloudevents.Batch):
		return (*handler).readEvents, nil
	case len(contentType) >= len(cloudevents.MediaTypes) && strings.EqualFold(contentType[:len(cloudevents.MediaTypes)], cloudevents.MediaTypes):
		return nil, mediaType("%.100q: of the formats of CloudEvents there are %s and %s here", contentType, cloudevents.Structured, cloudevents.Batch)
	case cloudevents.InHeaders(r.Header):
		return (*handler).readBinaryEvent, nil
	case slices.ContainsFunc(manyTypes, func(many string) bool { return hasType(contentType, many) }):
		return (*handler).readMany, nil
	}
	return (*handler).readOne, nil
}

// readBinaryEvent makes a record of an event in binary mode: the body is its data.
func (h *handler) readBinaryEvent(r *request, common drainmark.Record) ([]drainmark.Record, func(), error) {
	e, err := cloudevents.FromHeaders(r.Header)
	if err != nil {
		return nil, func() {}, err
	}
	own, err := r.ownHeaders()
	if err != nil {
		return nil, func() {}, err
	}
	body, release, err := h.readBody(r, h.limits.Message, "the event's data")
	if err != nil {
		return nil, release, err
	}
	e.Data = body
	record, err := h.eventRecord(e, common, own, r.trace())
	return []drainmark.Record{record}, release, err
}

// readEvent makes a record of an event in structured mode.
func (h *handler) readEvent(r *request, common drainmark.Record) ([]drainmark.Record, func(), error) {
	own, err := r.ownHeaders()
	if err != nil {
		return nil, func() {}, err
	}
	body, release, err := h.readBody(r, h.limits.Many, "the request with an event")
	if err != nil {
		return nil, release, err
	}
	e, err := cloudevents.Parse(body)
	if err != nil {
		return nil, release, err
	}
	record, err := h.eventRecord(e, common, own, r.trace())
	return []drainmark.Record{record}, release, err
}

// readEvents makes a record of each event in batched mode, or none if there is a fault in any.
func (h *handler) readEvents(r *request, common drainmark.Record) ([]drainmark.Record, func(), error) {
	if err := r.noOwnHeaders("events of a batch have no headers besides their attributes"); err != nil {
		return nil, func() {}, err
	}
	body, release, err := h.readBody(r, h.limits.Many, "the request with a batch of events")
	if err != nil {
		return nil, release, err
	}
	var records []drainmark.Record
	trace, key := r.trace(), common.Key
	err = cloudevents.ParseBatch(body, h.limits.Lines, func(e *cloudevents.Event) error {
		if key != "" {
			common.Key = key + "/" + strconv.Itoa(len(records)+1)
		}
		record, err := h.eventRecord(e, common, nil, trace)
		records = append(records, record)
		return err
	})
	return records, release, err
}

// eventRecord makes the record of an event. Source and id are its idempotency key, unless it has another one.
func (h *handler) eventRecord(e *cloudevents.Event, r drainmark.Record, own, trace []drainmark.Header) (drainmark.Record, error) {
	if len(e.Data) > h.limits.Message {
		return r, tooLarge("the event's data has %d bytes; the limit is %d", len(e.Data), h.limits.Message)
	}
	if r.Key == "" {
		r.Key = e.Key()
	}
	for i := range own {
		if cloudevents.Keeps(own[i].Name) {
			return r, invalid("%s%.40s: that is a header in which an event's attributes are kept", headerPrefix, own[i].Name)
		}
	}
	r.Body, r.ContentType = e.Data, e.ContentType
	var err error
	if r.Headers, err = headersOf(append(asTrace(e.Headers()), own...), trace); err != nil {
		err = drainmark.Errorf(drainmark.KindOf(err), "the event's attributes are headers of a message: %w", err)
	}
	return r, err
}

// asTrace has an event's trace context, of the distributed tracing extension, be the message's, if that can have it as it
// is. Otherwise it stays among the attributes.
func asTrace(list []drainmark.Header) []drainmark.Header {
	find := func(name string) (at int, values []string) {
		at = slices.IndexFunc(list, func(h drainmark.Header) bool { return h.Name == cloudevents.HeaderOf(name) })
		if at >= 0 {
			values = []string{list[at].Value}
		}
		return at, values
	}
	parent, parents := find(drainmark.TraceParent)
	state, states := find(drainmark.TraceState)
	context := traceContext(parents, states)
	switch {
	case len(context) != len(parents)+len(states), len(context) == 0, context[0].Value != list[parent].Value,
		len(context) > 1 && context[1].Value != list[state].Value:
		return list
	case len(context) > 1:
		list[state].Name = drainmark.TraceState
	}
	list[parent].Name = drainmark.TraceParent
	return list
}

// wantsEvents says whether an Accept header names a batch of events, and prefers no JSON to it.
func wantsEvents(accept []string) bool {
	events := quality(accept, cloudevents.Batch)
	return events > 0 && events >= quality(accept, "application/json")
}

// quality returns the quality value that an Accept header gives a media type by its full name (RFC 9110). 0 is not at all:
// ranges such as */* do not count.
func quality(accept []string, media string) float64 {
	for _, one := range names(accept) {
		if !hasType(one, media) {
			continue
		}
		_, parameters, _ := strings.Cut(one, ";")
		for parameter := range strings.SplitSeq(parameters, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if q, err := strconv.ParseFloat(value, 64); err == nil && strings.EqualFold(name, "q") {
				return q
			}
		}
		return 1
	}
	return 0
}

// The headers that say of a page of events what a page of messages says of the log.
const (
	firstHeader = "Drainmark-First-Position"
	lastHeader  = "Drainmark-Last-Position"
)

// respondEvents answers with a page as a batch of events.
func (h *handler) respondEvents(w http.ResponseWriter, r *request, page *store.Page) {
	w.Header().Set(firstHeader, strconv.FormatUint(page.Log.ClearedThrough+1, 10))
	w.Header().Set(lastHeader, strconv.FormatUint(page.Log.LastPosition, 10))
	h.respondLong(w, r, cloudevents.Batch, func(e *encoder, dst []byte) []byte { return e.cloudEvents(dst, page) })
}

// cloudEvents appends a page as a batch of events.
func (e *encoder) cloudEvents(dst []byte, p *store.Page) []byte {
	dst = append(dst, '[')
	var event cloudevents.Event
	for i := range p.Messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		event.SetMessage(p.Log.Name, &p.Messages[i])
		dst = e.room(e.cloudEvent(dst, &event))
	}
	return append(dst, ']')
}

// cloudEvent appends an event in the JSON format. Its specversion comes first: there are readers that need it to understand
// what follows.
func (e *encoder) cloudEvent(dst []byte, event *cloudevents.Event) []byte {
	dst = append(dst, `{"specversion":"`+cloudevents.Version+`"`...)
	for i := range event.Attributes {
		a := &event.Attributes[i]
		switch {
		case a.Name == cloudevents.SpecVersion:
		case a.Type == cloudevents.String:
			dst = jsonstring.Append(appendName(dst, a.Name), a.Value)
		default:
			dst = append(appendName(dst, a.Name), a.Value...)
		}
	}
	if event.ContentType != "" {
		dst = jsonstring.Append(append(dst, `,"datacontenttype":`...), event.ContentType)
	}
	return append(e.data(dst, event), '}')
}

// appendName appends the name of a further member, which needs no escapes.
func appendName(dst []byte, name string) []byte {
	return append(append(append(dst, ',', '"'), name...), '"', ':')
}

// data appends the data of an event, if it has any.
func (e *encoder) data(dst []byte, event *cloudevents.Event) []byte {
	if len(event.Data) == 0 {
		return dst
	}
	switch event.Form() {
	case cloudevents.InJSON:
		return e.value(append(dst, `,"data":`...), event.Data)
	case cloudevents.InString:
		return e.quoted(append(dst, `,"data":`...), event.Data, true)
	}
	return e.quoted(append(dst, `,"data_base64":`...), event.Data, false)
}

// value appends a JSON value as it is, part by part. Where it is to be one line, spaces are in place of its line ends, which
// no string has.
func (e *encoder) value(dst, value []byte) []byte {
	for part := range slices.Chunk(value, bodyPart) {
		start := len(dst)
		dst = append(dst, part...)
		for e.oneLine {
			i := bytes.IndexAny(dst[start:], "\r\n")
			if i < 0 {
				break
			}
			start += i
			dst[start] = ' '
		}
		dst = e.room(dst)
	}
	return dst
}
