package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkTracingOfAnAppend compares single appends to a process that traces nothing with those to processes that sample one
// request in a hundred, and every one. They take turns, a second each, so that what else the machine does falls on all.
// Processor time is the processes' own: it moves less than rates do.
func BenchmarkTracingOfAnAppend(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer collector.Close()
	names := []string{"off", "1%", "100%"}
	off := up(b, filepath.Join(b.TempDir(), "data"))
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	b.Setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
	b.Setenv("OTEL_TRACES_SAMPLER_ARG", "0.01")
	some := up(b, filepath.Join(b.TempDir(), "data"))
	b.Setenv("OTEL_TRACES_SAMPLER_ARG", "1")
	processes := []*program{off, some, up(b, filepath.Join(b.TempDir(), "data"))}
	client := benchClient(64)
	const turns = 12
	for b.Loop() {
		var rates, spent [3]float64
		for turn := range turns + 1 {
			for i, p := range processes {
				before := processorTime(b, p)
				rate := posts(b, client, p.api+"/v1/logs/bench/messages", 64, time.Second)
				if turn > 0 { // the first warms up
					rates[i] += rate / turns
					spent[i] += (processorTime(b, p) - before).Seconds() / rate / turns
				}
			}
		}
		for i, name := range names {
			b.ReportMetric(rates[i], name+"/s")
			b.ReportMetric(1e6*spent[i], name+"-µs/append")
			if i > 0 {
				b.ReportMetric(rates[i]/rates[0], name+"-rate")
				b.ReportMetric(spent[i]/spent[0], name+"-time")
			}
		}
	}
}

// processorTime returns how much of it a process has used.
func processorTime(b *testing.B, p *program) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
