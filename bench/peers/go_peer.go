/* SPDX-License-Identifier: MIT */

// Go, one scheduling thread (GOMAXPROCS=1, so that it uses one core as the others do). `echo` is a TCP echo
// server with a goroutine per connection; `http` is net/http with /hello and /slow?ms=N.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const sleepRounds = 4

func cpuNs() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func memoryBytes() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	var sum int64
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		if w[0] == "VmRSS:" || w[0] == "VmPTE:" {
			kb, _ := strconv.ParseInt(w[1], 10, 64)
			sum += kb * 1024
		}
	}
	return sum
}

func row(what, metric string, value float64) {
	fmt.Printf("{\"case\": \"%s\", \"metric\": \"%s\", \"value\": %.3f}\n", what, metric, value)
}

func nextSleep(state *uint64) time.Duration {
	*state = *state*6364136223846793005 + 1442695040888963407
	return time.Duration(100+(*state>>33)%1000) * time.Millisecond
}

func benchSwitch(n int64) {
	stop := false
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		for !stop {
			runtime.Gosched()
		}
		wg.Done()
	}()
	start := cpuNs()
	for i := int64(0); i < n/2; i++ {
		runtime.Gosched()
	}
	row("yield", "ns", float64(cpuNs()-start)/float64(n))
	stop = true
	wg.Wait()
}

// A channel per goroutine is its handle: it can be joined on its own, and gives the result.
func benchSpawn(n int64) {
	var ran int64
	start := cpuNs()
	for i := int64(0); i < n; i++ {
		done := make(chan int)
		go func() { ran++; done <- 0 }()
		<-done
	}
	row("join", "ns", float64(cpuNs()-start)/float64(ran))
}

func benchChannel(n int64) {
	there, back := make(chan int64), make(chan int64)
	go func() {
		for v := range there {
			back <- v + 1
		}
	}()
	var got int64
	start := cpuNs()
	for i := int64(0); i < n; i++ {
		there <- got
		got = <-back
	}
	ns := cpuNs() - start
	close(there)
	if got == n {
		row("round trip", "ns", float64(ns)/float64(n))
	}
}

func benchParked(n int64) {
	gate := make(chan int)
	var all sync.WaitGroup
	var parked int64
	all.Add(int(n))
	debug.FreeOSMemory()
	before := memoryBytes()
	for i := int64(0); i < n; i++ {
		go func() { parked++; <-gate; all.Done() }()
	}
	for parked < n {
		runtime.Gosched()
	}
	row(strconv.FormatInt(n, 10), "bytes", float64(memoryBytes()-before)/float64(n))
	close(gate)
	all.Wait()
}

func benchSleepers(n int64) {
	gate := make(chan int)
	var all sync.WaitGroup
	var parked int64
	seed := uint64(1)
	all.Add(int(n))
	for i := int64(0); i < n; i++ {
		go func() {
			parked++
			<-gate
			for r := 0; r < sleepRounds; r++ {
				time.Sleep(nextSleep(&seed))
			}
			all.Done()
		}()
	}
	for parked < n {
		runtime.Gosched()
	}
	start := cpuNs()
	close(gate)
	all.Wait()
	row(strconv.FormatInt(n, 10), "ns", float64(cpuNs()-start)/float64(n*sleepRounds))
}

// n goroutines that all yield, `turns` turns in all. They wait at a gate until all of them are made: main is
// pre-empted while it makes them, and would have to wait for a turn of all the others each time.
func benchGrowth(n, turns int64) {
	var done int64
	gate := make(chan int)
	stop := false
	for i := int64(0); i < n; i++ {
		go func() {
			<-gate
			for !stop {
				runtime.Gosched()
				done++
			}
		}()
	}
	close(gate)
	runtime.Gosched()
	runtime.GC()
	done = 0
	start := cpuNs()
	for done < turns {
		runtime.Gosched()
	}
	row(strconv.FormatInt(n, 10), "ns", float64(cpuNs()-start)/float64(done))
	stop = true
}

func listen() net.Listener {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("port %d\n", l.Addr().(*net.TCPAddr).Port)
	return l
}

func serveEcho() {
	l := listen()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err = c.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func serveHTTP() {
	http.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("hello world\n"))
	})
	http.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
		w.Write([]byte("done\n"))
	})
	http.Serve(listen(), nil)
}

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: peer switch|spawn|channel|parked|sleepers|growth|echo|http [N]")
		os.Exit(2)
	}
	arg := func(otherwise int64) int64 {
		if len(os.Args) > 2 {
			n, _ := strconv.ParseInt(os.Args[2], 10, 64)
			return n
		}
		return otherwise
	}
	switch os.Args[1] {
	case "switch":
		benchSwitch(arg(10000000))
	case "spawn":
		benchSpawn(arg(1000000))
	case "channel":
		benchChannel(arg(2000000))
	case "parked":
		benchParked(arg(100000))
	case "sleepers":
		benchSleepers(arg(100000))
	case "growth":
		benchGrowth(arg(1000), 4000000)
	case "echo":
		serveEcho()
	case "http":
		serveHTTP()
	}
}
