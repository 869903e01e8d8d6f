#!/usr/bin/perl
# The whole workflow from Perl 5, with its core modules. Prepare FOLDER as docs/how-to/any-language.md says.
#
#   perl examples/perl/workflow.pl FOLDER

use strict;
use warnings;
use Cwd qw(abs_path);
use HTTP::Tiny;
use JSON::PP;

my $server = $ENV{TFSERVE_URL} || 'http://127.0.0.1:8000';
my $folder = abs_path($ARGV[0] || '.');
my $length = 'inference-header-content-length';
my %authorization = $ENV{TFSERVE_TOKEN} ? (Authorization => "Bearer $ENV{TFSERVE_TOKEN}") : ();
my $http = HTTP::Tiny->new(timeout => 300, default_headers => \%authorization);
my $json = JSON::PP->new->utf8->canonical;
$| = 1;

# The response to a request. Dies with the server's message on errors.
sub send_request {
    my ($method, $path, %options) = @_;
    my $response = $http->request($method, $server . $path, \%options);
    return $response if $response->{success};
    my $error = eval { $json->decode($response->{content})->{error} } // $response->{content};
    $error = $error->{message} if ref $error;    # in v1, v2 and training it is a text
    die "status $response->{status}: $error\n";
}

sub post {
    my ($path, $fields) = @_;
    my %options = (headers => { 'Content-Type' => 'application/json' }, content => $json->encode($fields));
    return $json->decode(send_request('POST', $path, %options)->{content});
}

# The `result` of the workspace API. A job that failed is a request that succeeded, so its error is checked, too.
sub call {
    my ($path, %fields) = @_;
    my $result = post($path, \%fields)->{result};
    die "$path failed: $result->{error}{message}\n" if ref $result eq 'HASH' && $result->{error};
    return $result;
}

# Prints the output of a job or training while it runs. Returns its final state.
sub follow {
    my ($path) = @_;
    my ($text, $state) = ('', undef);
    my $read = sub {
        $text .= $_[0];
        while ($text =~ s/^(.*)\n//) {
            my $line = $1;
            next unless $line =~ s/^data: //;
            my $data = $json->decode($line);
            $state = $data->{state} if $data->{state};
            print "  $_\n" for grep { /\S/ } split /\n/, $data->{text} // '';
        }
    };
    send_request('GET', $path, headers => { Accept => 'text/event-stream' }, data_callback => $read);
    return $state // die "the stream ended before the job\n";
}

sub run {
    my ($name) = @_;
    my $script = "for n in range(3):\n    print('line', n, flush=True)";
    my $job = call('/push_job/', name => $name, type => 1, job => $script, timeout => 0);
    print "pushed job $job->{id}\n";
    print 'followed the job: ', follow("/jobs/$job->{id}/output"), "\n";

    call('/deploy/', name => $name, path => "$folder/half.onnx", timeout => 120);
    print "deployed half.onnx\n";
    my $predicted = post("/v1/models/$name:predict", { instances => [[1, 2], [3, 4]] });
    print 'predicted by v1: ', $json->encode($predicted->{predictions}), "\n";

    my $input = { name => 'x', shape => [2, 2], datatype => 'FP32', parameters => { binary_data_size => 16 } };
    my $output = { name => 'y', parameters => { binary_data => JSON::PP::true } };
    my $head = $json->encode({ inputs => [$input], outputs => [$output] });
    my %binary = (headers => { $length => length $head }, content => $head . pack('f<*', 1, 2, 3, 4));
    my $response = send_request('POST', "/v2/models/$name/infer", %binary);
    my @numbers = unpack 'f<*', substr $response->{content}, $response->{headers}{$length};
    print "predicted by v2: @numbers\n";

    call('/deploy/', name => $name, path => "$folder/brightness.onnx", timeout => 120);
    open my $file, '<:raw', "$folder/photo.png" or die "$folder/photo.png: $!\n";
    my $photo = do { local $/; <$file> };
    my %image = (headers => { 'Content-Type' => 'image/png' }, content => $photo);
    my $classified = $json->decode(send_request('POST', "/v1/models/$name:predict", %image)->{content});
    print "classified the image: $classified->{predictions}[0]{label}\n";

    my %project = (userId => 'me', projectId => 'digits', projectDir => "$folder/digits", trainType => 'classification');
    my %parameters = (epochs => 1, backbone => 'compact', effort => 'fast', exports => 'saved_model');
    my $id = post('/tasks/', { %project, parameters => \%parameters })->{taskId};
    post("/tasks/$id/cancel", {}) if $ENV{TFSERVE_QUICK};    # to try the other steps in seconds
    follow("/tasks/$id/output");
    my $task = $json->decode(send_request('GET', "/tasks/$id")->{content});
    die(($task->{error} // $task->{state}) . "\n") unless $task->{state} =~ /^(done|cancelled)$/;
    print "trained: $task->{state} ", $task->{modelPath} // '', "\n";

    my %endless = (name => $name, type => 1, job => 'import time; time.sleep(600)', timeout => 0);
    my $number = call('/push_job/', %endless)->{job};
    call('/cancel_job/', name => $name, job => $number)->{cancelled} or die "the job ended before it was cancelled\n";
    print "cancelled job $number\n";

    eval { call('/get_status/', name => 'no such workspace'); 1 } and die "expected an error\n";
    print "refused with $@";
}

my $name = call('/create_workspace/');    # a random name
print "created workspace $name\n";
my $succeeded = eval { run($name); 1 };
my $problem = $@;
call('/destroy_workspace/', name => $name);    # also ends its jobs, and deletes its model and files
print "destroyed the workspace\n";
die $problem unless $succeeded;
