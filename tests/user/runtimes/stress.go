// What Go asks of an emulator: threads that it preempts by signals at any instruction, a collector that edits signal contexts,
// faults made into panics, child processes, sockets. Prints "go ok".
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func check(ok bool, what string, args ...any) {
	if !ok {
		fmt.Printf("FAILED: "+what+"\n", args...)
		os.Exit(1)
	}
}

// Loops without calls are left by SIGURG only.
func preempted() {
	var stop, n atomic.Int64
	var wg sync.WaitGroup
	for i := 0; i < 4; i++ {
		wg.Add(1)
		go func(x float64) {
			defer wg.Done()
			y := x
			for stop.Load() == 0 {
				for k := 0; k < 100000; k++ {
					y = y*0.5 + x
				}
				check(y == 2*x, "floating-point state: %g %g", x, y)
				n.Add(1)
			}
		}(float64(i + 1))
	}
	for i := 0; i < 3; i++ {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	stop.Store(1)
	wg.Wait()
}

type node struct {
	left, right *node
	v           int
}

func tree(d int) *node {
	if d == 0 {
		return &node{v: 1}
	}
	return &node{tree(d - 1), tree(d - 1), 1}
}

func (n *node) sum() int {
	if n.left == nil {
		return n.v
	}
	return n.v + n.left.sum() + n.right.sum()
}

func collected() {
	var wg sync.WaitGroup
	for i := 0; i < 8; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := 0; k < 5; k++ {
				check(tree(12).sum() == 8191, "tree")
			}
		}()
	}
	wg.Wait()
}

func channels() {
	const n = 200
	first := make(chan int)
	in := first
	for i := 0; i < n; i++ {
		out := make(chan int)
		go func(in, out chan int) {
			for v := range in {
				out <- v + 1
			}
			close(out)
		}(in, out)
		in = out
	}
	go func() {
		for i := 0; i < 50; i++ {
			first <- i
		}
		close(first)
	}()
	i := 0
	for v := range in {
		check(v == i+n, "channel %d: %d", i, v)
		i++
	}
	check(i == 50, "channels: %d", i)
}

//go:noinline
func deref(p *int, a []int, i, d int) int { return *p + a[i]/d }

func panics() {
	catch := func(p *int, i, d int) (text string) {
		defer func() { text = fmt.Sprint(recover()) }()
		deref(p, []int{1}, i, d)
		return "none"
	}
	one := 1
	for i := 0; i < 200; i++ {
		check(catch(nil, 0, 1) == "runtime error: invalid memory address or nil pointer dereference", "nil: %s", catch(nil, 0, 1))
		check(catch(&one, 5, 1) == "runtime error: index out of range [5] with length 1", "index")
		check(catch(&one, 0, 0) == "runtime error: integer divide by zero", "divide")
	}
	mem, err := syscall.Mmap(-1, 0, 8192, syscall.PROT_READ, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	check(err == nil, "mmap: %v", err)
	old := debug.SetPanicOnFault(true)
	func() {
		defer func() { check(fmt.Sprint(recover()) != "<nil>", "store to read-only memory") }()
		mem[100] = 1
	}()
	debug.SetPanicOnFault(old)
}

func signals() {
	c := make(chan os.Signal, 1000)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGUSR2)
	for i := 0; i < 100; i++ {
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		check(<-c == syscall.SIGUSR1, "signal")
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	<-ctx.Done()
	cancel()
}

func processes() {
	var wg sync.WaitGroup
	for i := 0; i < 4; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			out, err := exec.Command("/proc/self/exe", "child", fmt.Sprint(i)).Output()
			check(err == nil && string(out) == fmt.Sprint("child ", i, "\n"), "child: %q %v", out, err)
		}(i)
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := exec.CommandContext(ctx, "/proc/self/exe", "sleep").Run()
	check(err != nil && err.Error() == "signal: killed", "killed child: %v", err)
}

func sockets() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err == nil, "listen: %v", err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	var wg sync.WaitGroup
	for i := 0; i < 3; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			c, err := net.Dial("tcp", l.Addr().String())
			check(err == nil, "dial: %v", err)
			text := bytes.Repeat([]byte{byte(i)}, 30000)
			go func() { c.Write(text); c.(*net.TCPConn).CloseWrite() }()
			got, err := io.ReadAll(c)
			check(err == nil && bytes.Equal(got, text), "echo: %d bytes, %v", len(got), err)
		}(i)
	}
	wg.Wait()
	l.Close()
}

func computed() {
	check(fmt.Sprintf("%x", sha256.Sum256(bytes.Repeat([]byte("rhea"), 10000)))[:16] == "6b126a7a67959887", "sha256 %x",
		sha256.Sum256(bytes.Repeat([]byte("rhea"), 10000)))
	f := big.NewInt(1)
	for i := int64(1); i <= 500; i++ {
		f.Mul(f, big.NewInt(i))
	}
	check(len(f.String()) == 1135, "500! has %d digits", len(f.String()))
	m := map[string]any{"a": 1.5, "b": []any{"x", nil, true}}
	j, _ := json.Marshal(m)
	check(string(j) == `{"a":1.5,"b":["x",null,true]}`, "json %s", j)
	check(regexp.MustCompile(`(\w+)@(\w+)\.org`).ReplaceAllString("me@home.org", "$2 $1") == "home me", "regexp")
	a := make([]int, 50000)
	for i := range a {
		a[i] = i * 7919 % 50021
	}
	sort.Ints(a)
	check(sort.IntsAreSorted(a), "sort")
}

func timers() {
	var n atomic.Int64
	var wg sync.WaitGroup
	for i := 0; i < 100; i++ {
		wg.Add(1)
		time.AfterFunc(time.Duration(i%10)*time.Millisecond, func() { n.Add(1); wg.Done() })
	}
	wg.Wait()
	check(n.Load() == 100, "timers")
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		fmt.Println("child", os.Args[2])
		return
	} else if len(os.Args) > 1 {
		time.Sleep(time.Hour)
	}
	for _, f := range []struct {
		name string
		run  func()
	}{{"preempted", preempted}, {"collected", collected}, {"channels", channels}, {"panics", panics}, {"signals", signals},
		{"processes", processes}, {"sockets", sockets}, {"computed", computed}, {"timers", timers}} {
		start := time.Now()
		f.run()
		if os.Getenv("VERBOSE") != "" {
			fmt.Println(f.name, time.Since(start))
		}
	}
	fmt.Println("go ok")
}
